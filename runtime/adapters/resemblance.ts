/** Whether an adapter was trained from another one: training moves LoRA's matrices little, so their A still point the same way. */
import { type AdapterSource, readTensor } from "../formats/mod.ts";

/** Above this cosine one is taken to come from the other; A matrices of different origin are nearly orthogonal. */
export const RESEMBLES = 0.9;

/** The cosine between the A matrices of all modules that both target with one rank, taken as one vector; 0 where there are none. */
export function resemblance(adapter: AdapterSource, other: AdapterSource): number {
  let [dot, squares, otherSquares] = [0, 0, 0];
  for (const [module, { a, rank }] of adapter.targets) {
    const match = other.targets.get(module);
    if (match?.rank !== rank || match.a.shape[1] !== a.shape[1]) continue;
    const [x, y] = [readTensor(a), readTensor(match.a)];
    for (let i = 0; i < x.length; i++) {
      dot += x[i]! * y[i]!;
      squares += x[i]! * x[i]!;
      otherSquares += y[i]! * y[i]!;
    }
  }
  return dot === 0 ? 0 : dot / Math.sqrt(squares * otherSquares);
}
