/** The ops of training: a second implementation of ops.ts with a backward pass. */
export { copyTensor } from "./copy.ts";
export { type DropoutSettings, LoraDropout } from "./dropout.ts";
export { COMPUTES, type Compute } from "./matmul.ts";
export { type ArenaBytes, type TrainingArenaOptions, trainingArena, trainingArenaBytes } from "./training_arena.ts";
export { learns, type TrainableFactors, type TrainableLinear, type TrainableLora } from "./training_linear.ts";
export { type Recording, type TrainableNorm, TrainingOps, type TrainingOptions } from "./training_ops.ts";
