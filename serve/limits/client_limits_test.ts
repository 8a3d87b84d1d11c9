import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiError } from "../errors.ts";
import { ClientLimits, type LimitSettings } from "./client_limits.ts";

const NONE: LimitSettings = { requestsPerMinute: undefined, tokensPerMinute: undefined, requestsAtOnce: undefined };

/** Limits with a clock that only the test moves. */
function limitsAt(settings: Partial<LimitSettings>) {
  const clock = { ms: 1000 };
  return { clock, limits: new ClientLimits({ ...NONE, ...settings }, () => clock.ms) };
}

function refusal(enter: () => unknown): ApiError {
  return assertThrows(enter, ApiError) as ApiError;
}

describe("ClientLimits", () => {
  it("lets a burst of a minute's requests in, then one whenever its time has come", () => {
    const { clock, limits } = limitsAt({ requestsPerMinute: 3 });
    for (let i = 0; i < 3; i++) limits.enter("a").leave();
    const error = refusal(() => limits.enter("a"));
    assertEquals([error.status, error.code], [429, "rate_limit_exceeded"]);
    assertEquals(error.headers, {
      "x-ratelimit-limit-requests": "3",
      "x-ratelimit-remaining-requests": "0",
      "x-ratelimit-reset-requests": "1m0s",
      "retry-after": "20",
      "retry-after-ms": "20000",
    });
    clock.ms += 19_999;
    refusal(() => limits.enter("a"));
    clock.ms += 1;
    limits.enter("a");
    refusal(() => limits.enter("a"));
  });

  it("counts each client by itself", () => {
    const { limits } = limitsAt({ requestsPerMinute: 1, requestsAtOnce: 1 });
    limits.enter("a");
    limits.enter("b");
    refusal(() => limits.enter("a"));
  });

  it("makes a client wait until the tokens of its last answer are paid back", () => {
    const { clock, limits } = limitsAt({ tokensPerMinute: 600 });
    const admitted = limits.enter("a");
    admitted.spend(500);
    admitted.spend(200);
    assertEquals(admitted.headers(), {
      "x-ratelimit-limit-tokens": "600",
      "x-ratelimit-remaining-tokens": "0",
      "x-ratelimit-reset-tokens": "1m10s",
    });
    assertEquals(refusal(() => limits.enter("a")).headers["retry-after"], "11");
    clock.ms += 10_100;
    limits.enter("a");
  });

  it("lets as many run at a time as allowed, and takes nothing for those it refuses", () => {
    const { limits } = limitsAt({ requestsPerMinute: 4, requestsAtOnce: 2 });
    const first = limits.enter("a");
    limits.enter("a");
    const error = refusal(() => limits.enter("a"));
    assertEquals(error.headers["retry-after"], "2");
    assertEquals(error.headers["x-ratelimit-remaining-requests"], "2");
    first.leave();
    limits.enter("a");
  });

  it("says nothing of limits that there are not", () => {
    const { limits } = limitsAt({});
    const admitted = limits.enter("a");
    admitted.spend(1e9);
    assertEquals(admitted.headers(), {});
    limits.enter("a");
  });
});
