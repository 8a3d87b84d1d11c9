/** From the rounds of the comparison to medians and a text. */
import { formatBytes } from "../../../runtime/cli/format.ts";
import { median } from "../apiq_block/report.ts";
import type { SpeedAnswer } from "./speed_task.ts";

/** All sides, one after the other on the same machine. The last one is PyTorch. */
export type SpeedRound = readonly SpeedAnswer[];

export interface SpeedReport {
  readonly date: string;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly loadAverage: number };
  readonly model: string;
  readonly threads: number;
  readonly length: number;
  readonly steps: number;
  readonly rounds: readonly SpeedRound[];
}

export interface Side {
  readonly about: string;
  /** Medians over all rounds. */
  readonly tokensPerSecond: number;
  readonly peakBytes: number;
  /** Median of the rounds' ratios: how many times as long PyTorch takes for a step. */
  readonly ratio: number;
  /** Largest relative difference of a step's loss from PyTorch's. */
  readonly lossDifference: number;
}

export function compareSides({ rounds, length }: SpeedReport): Side[] {
  const reference = (round: SpeedRound): SpeedAnswer => round.at(-1)!;
  return rounds[0]!.map(({ about }, side) => {
    const answers = rounds.map((round) => round[side]!);
    const differences = rounds.flatMap((round) =>
      round[side]!.losses.map((loss, step) => Math.abs(loss / reference(round).losses[step]! - 1)),
    );
    return {
      about,
      tokensPerSecond: length / median(answers.map(({ seconds }) => median(seconds))),
      peakBytes: median(answers.map((answer) => answer.peakBytes)),
      ratio: median(rounds.map((round) => median(reference(round).seconds) / median(round[side]!.seconds))),
      lossDifference: Math.max(...differences),
    };
  });
}

export function renderSpeeds(report: SpeedReport): string {
  const { machine, rounds } = report;
  const sides = compareSides(report);
  const torch = sides.at(-1)!;
  return [
    `${machine.cpu}, ${machine.cores} cores, ${report.threads} threads each; load average before the run ` +
      machine.loadAverage.toFixed(1),
    `LoRA of ${report.model} trained with AdamW, batch 1 of ${report.length} tokens; medians of ${report.steps} steps in each of ` +
      `${rounds.length} rounds in which the sides alternate`,
    ...sides.map(({ about, tokensPerSecond, peakBytes, ratio, lossDifference }) => {
      const own = `  ${about}: ${tokensPerSecond.toFixed(1)} tokens/s, ${formatBytes(peakBytes)} at the most`;
      if (about === torch.about) return own;
      const less = `${((100 * peakBytes) / torch.peakBytes).toFixed(0)} % of PyTorch's memory`;
      return `${own}; ${ratio.toFixed(2)} times as fast, ${less}, losses within ${lossDifference.toExponential(1)}`;
    }),
  ].join("\n");
}
