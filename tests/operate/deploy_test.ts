/** The manifests of scripts/deploy: valid by their schemas, and in agreement with each other and with the server. */
import { readdirSync, readFileSync } from "node:fs";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Ajv } from "ajv";
import { parse } from "yaml";
import { parseArguments } from "../../runtime/cli/flags.ts";
import { checkSettings } from "../../serve/config/check.ts";
import { SERVE_FLAGS } from "../../serve/config/serve_flags.ts";
import { resolveSettings } from "../../serve/config/settings.ts";
import { operations } from "../../serve/operations.ts";
import { repositoryRoot } from "../shared.ts";

const FOLDER = `${repositoryRoot}scripts/deploy`;
const KINDS = ["deployment", "service", "inference_pool", "http_route"] as const;

interface Probe {
  httpGet: { path: string; port: string };
}
interface Deployment {
  spec: {
    selector: { matchLabels: object };
    template: {
      metadata: { labels: object };
      spec: {
        terminationGracePeriodSeconds: number;
        enableServiceLinks: boolean;
        containers: {
          args: string[];
          ports: { name: string; containerPort: number }[];
          startupProbe: Probe;
          readinessProbe: Probe;
          livenessProbe: Probe;
          volumeMounts: { name: string }[];
          lifecycle: { preStop: { exec: { command: [string, string] } } };
        }[];
        volumes: { name: string }[];
      };
    };
  };
}
interface Pool {
  metadata: { name: string };
  spec: { selector: { matchLabels: object }; targetPorts: { number: number }[] };
}
interface Route {
  spec: {
    rules: { matches: { path: { value: string } }[]; backendRefs: { group: string; kind: string; name: string }[] }[];
  };
}

const read = (kind: string) => parse(readFileSync(`${FOLDER}/${kind}.yaml`, "utf8"), { version: "1.2" }) as unknown;

const ajv = new Ajv({ strict: true, strictRequired: false, allErrors: true });
for (const file of readdirSync(`${FOLDER}/schemas`)) {
  ajv.addSchema(JSON.parse(readFileSync(`${FOLDER}/schemas/${file}`, "utf8")));
}
const errorsOf = (kind: string, document: unknown): string => {
  const validate = ajv.getSchema(`${kind}.json`);
  if (!validate) throw new Error(`There is no schema ${kind}.json`);
  return validate(document) ? "" : ajv.errorsText(validate.errors);
};

describe("the manifests", () => {
  const deployment = read("deployment") as Deployment;
  const pod = deployment.spec.template.spec;
  const container = pod.containers[0]!;
  const pool = read("inference_pool") as Pool;
  const route = read("http_route") as Route;
  const { settings, sources } = resolveSettings(
    parseArguments({ flags: SERVE_FLAGS }, container.args.slice(1)),
    {},
    `${FOLDER}/`,
  );

  it("are what their schemas say", () => {
    for (const kind of KINDS) assertEquals(errorsOf(kind, read(kind)), "", kind);
  });

  it("would be refused with a field that there is not, or a value that it does not take", () => {
    const broken: readonly (readonly [kind: string, from: string, to: string])[] = [
      ["deployment", "replicas: 3", "replica: 3"],
      ["deployment", "containerPort: 8000", 'containerPort: "8000"'],
      ["deployment", "memory: 4Gi", "memory: 4Gb"],
      ["deployment", "httpGet:", "httpget:"],
      ["deployment", "app: apiq", "app: -apiq-"],
      ["service", "port: 80", "port: 80000"],
      ["inference_pool", "endpointPickerRef:", "extensionRef:"],
      ["inference_pool", "    port:\n      number: 9002\n", ""],
      ["inference_pool", "/v1", "/v1alpha2"],
      ["http_route", "type: Exact", "type: exact"],
      ["http_route", "request: 3600s", "request: 1 hour"],
    ];
    for (const [kind, from, to] of broken) {
      const text = readFileSync(`${FOLDER}/${kind}.yaml`, "utf8");
      assert(text.includes(from), from);
      assert(errorsOf(kind, parse(text.replace(from, to))) !== "", `${kind} with ${to}`);
    }
  });

  it("start the server with flags that it has", () => {
    assertEquals(container.args[0], "serve");
    checkSettings({ settings, sources });
    assertEquals(settings.port, container.ports[0]?.containerPort);
    const mounts = container.volumeMounts.map(({ name }) => name).sort();
    assertEquals(mounts, pod.volumes.map(({ name }) => name).sort());
    assertEquals(pod.enableServiceLinks, false);
  });

  it("leave time to finish before the process is killed", () => {
    const [, sleep] = container.lifecycle.preStop.exec.command;
    assert(Number(sleep) + settings.drainTimeout + 10 < pod.terminationGracePeriodSeconds);
  });

  it("name routes that the server has, and nothing that changes it", () => {
    const has = (path: string) => operations().find(([, operation]) => operation.path === path)?.[1];
    for (const probe of [container.startupProbe, container.readinessProbe, container.livenessProbe]) {
      assertEquals(has(probe.httpGet.path)?.open, true, probe.httpGet.path);
      assertEquals(probe.httpGet.port, container.ports[0]?.name);
    }
    const paths = route.spec.rules.flatMap(({ matches }) => matches.map(({ path }) => path.value));
    const generating = operations().flatMap(([, { path, generates }]) => (generates ? [path] : []));
    assertEquals(
      generating.filter((path) => !paths.includes(path)),
      [],
    );
    for (const path of paths) assert(has(path) && !has(path)?.admin, path);
  });

  it("find each other", () => {
    const { labels } = deployment.spec.template.metadata;
    assertEquals(deployment.spec.selector.matchLabels, labels);
    assertEquals(pool.spec.selector.matchLabels, labels);
    assertEquals((read("service") as { spec: { selector: object } }).spec.selector, labels);
    assertEquals(pool.spec.targetPorts, [{ number: settings.port }]);
    assertEquals(route.spec.rules[0]?.backendRefs, [
      { group: "inference.networking.k8s.io", kind: "InferencePool", name: pool.metadata.name },
    ]);
  });
});
