#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

// The operations of torch.optim.AdamW's single-tensor form, each in float32: decay, lerp_ and addcmul_ (each ends in a fused
// multiply-add), addcdiv_.
void adamw(float* parameter, const float* grad, float* m, float* v, uint64_t count, const AdamwFactors& factors) {
  const Vec16 decay = broadcast(factors.decay);
  const Vec16 one_minus_beta1 = broadcast(factors.one_minus_beta1);
  const Vec16 beta2 = broadcast(factors.beta2);
  const Vec16 one_minus_beta2 = broadcast(factors.one_minus_beta2);
  const Vec16 root = broadcast(factors.root);
  const Vec16 eps = broadcast(factors.eps);
  const Vec16 step = broadcast(-factors.step_size);
  const Vec16 grad_scale = broadcast(factors.grad_scale);
  each16(count, [&](uint64_t i, auto lanes) {
    const Vec16 g = mul(load(grad + i, lanes), grad_scale);
    const Vec16 old_m = load(m + i, lanes);
    const Vec16 new_m = fma(one_minus_beta1, sub(g, old_m), old_m);
    const Vec16 new_v = fma(mul(one_minus_beta2, g), g, mul(load(v + i, lanes), beta2));
    const Vec16 denominator = add(div(square_root(new_v), root), eps);
    const Vec16 p = mul(load(parameter + i, lanes), decay);
    store(m + i, new_m, lanes);
    store(v + i, new_v, lanes);
    store(parameter + i, add(p, div(mul(step, new_m), denominator)), lanes);
  });
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
