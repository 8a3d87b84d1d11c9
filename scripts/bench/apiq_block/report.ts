/** From the rounds of the comparison to medians and a text. */
import { type BlockAnswer, type Budget, secondsPerBlock } from "./task.ts";

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error("Cannot take the median of nothing");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Both sides, one after the other on the same machine. */
export interface BlockRound {
  readonly apiq: BlockAnswer;
  readonly torch: BlockAnswer;
}

export interface BlockReport {
  readonly date: string;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly loadAverage: number };
  readonly model: string;
  readonly threads: number;
  readonly length: number;
  readonly rank: number;
  readonly bits: number;
  readonly augLoss: boolean;
  readonly budget: Budget;
  readonly steps: number;
  readonly rounds: readonly BlockRound[];
}

export interface Comparison {
  /** Median seconds of a whole block at the budget. */
  readonly apiq: number;
  readonly torch: number;
  /** Median of the rounds' ratios: how many times as long PyTorch takes. */
  readonly ratio: number;
  /** Largest relative difference of the mean losses in a round. */
  readonly lossDifference: number;
}

export function compareBlocks({ rounds, budget, augLoss }: BlockReport): Comparison {
  const whole = (answer: BlockAnswer): number => secondsPerBlock(answer, budget, augLoss);
  return {
    apiq: median(rounds.map(({ apiq }) => whole(apiq))),
    torch: median(rounds.map(({ torch }) => whole(torch))),
    ratio: median(rounds.map(({ apiq, torch }) => whole(torch) / whole(apiq))),
    lossDifference: Math.max(...rounds.map(({ apiq, torch }) => Math.abs(apiq.loss - torch.loss) / torch.loss)),
  };
}

const ms = (value: number): string => `${(1000 * value).toFixed(1)} ms`;

export function renderBlocks(report: BlockReport): string {
  const { apiq, torch, ratio, lossDifference } = compareBlocks(report);
  const { rounds, budget, machine } = report;
  const side = (name: "apiq" | "torch", block: number): string => {
    const answers = rounds.map((round) => round[name]);
    const step = median(answers.map(({ secondsPerStep }) => secondsPerStep));
    const forward = median(answers.map(({ secondsPerForward }) => secondsPerForward));
    return `  ${answers[0]!.about}: ${block.toFixed(1)} s a block (a step ${ms(step)}, a full-precision forward ${ms(forward)})`;
  };
  const targets = report.augLoss ? ", augmented loss" : "";
  return [
    `${machine.cpu}, ${machine.cores} cores, ${report.threads} threads each; load average before the run ` +
      machine.loadAverage.toFixed(1),
    `ApiQ-bw, ${report.bits} bits, rank ${report.rank}${targets}, one block of ${report.model}, batch 1 of ${report.length} tokens`,
    `A block is ${budget.samples} samples for ${budget.epochs} epochs, from ${report.steps} timed steps; ` +
      `medians of ${rounds.length} rounds in which the two alternate`,
    side("apiq", apiq),
    side("torch", torch),
    `  PyTorch takes ${ratio.toFixed(2)} times as long; the mean losses differ by ${(100 * lossDifference).toFixed(2)} %`,
  ].join("\n");
}
