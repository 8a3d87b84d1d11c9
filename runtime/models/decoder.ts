/** The decoder block of Llama, Mistral, Qwen2 and Qwen3, defined once over the Ops interface. */
import type { Ops } from "../ops/ops.ts";
import type { Tensor } from "../tensor.ts";
import type { DecoderConfig } from "./config.ts";
import type { BlockWeights, DecoderWeights } from "./weights.ts";

/** One block: x + attention(norm(x)), then x + mlp(norm(x)). x [rows, hidden] is consumed. */
export function decoderBlock(ops: Ops, config: DecoderConfig, block: BlockWeights, layer: number, x: Tensor): Tensor {
  const attentionInput = ops.rmsNorm(x, block.inputNorm);
  let [q, k, v] = ops.linear(attentionInput, [block.q, block.k, block.v]);
  if (block.qNorm) q = ops.rmsNorm(q, block.qNorm);
  if (block.kNorm) k = ops.rmsNorm(k, block.kNorm);
  q = ops.rotary(q, config.heads);
  k = ops.rotary(k, config.kvHeads);
  const [attended] = ops.linear(ops.attention(layer, q, k, v), [block.o]);
  x = ops.add(x, attended);

  const mlpInput = ops.rmsNorm(x, block.postAttentionNorm);
  const [gate, up] = ops.linear(mlpInput, [block.gate, block.up]);
  const [down] = ops.linear(ops.siluMul(gate, up), [block.down]);
  return ops.add(x, down);
}

/** The batch's tokens through all blocks: hidden states [rows, hidden] before the final norm. */
export function decoderHidden(ops: Ops, weights: DecoderWeights): Tensor {
  let x = ops.embedding(weights.embedding);
  for (const [layer, block] of weights.blocks.entries()) {
    x = ops.scope(() => decoderBlock(ops, weights.config, block, layer, x));
  }
  return x;
}

/** Logits [rows, vocab] of hidden states. */
export function decoderLogits(ops: Ops, weights: DecoderWeights, hidden: Tensor): Tensor {
  const [logits] = ops.linear(ops.rmsNorm(hidden, weights.finalNorm), [weights.head]);
  return logits;
}
