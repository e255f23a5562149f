/**
 * Where settings come from, later ones winning: the caller's defaults, rejoinder.yaml, the environment, the command line.
 * Each value remembers its origin, so that an error can say which line or variable to change.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Document, LineCounter, isMap, isNode, isScalar, parse, parseDocument } from 'yaml';
import { SETTING_KEYS, type SettingKind } from './settings.ts';

/** Read when it exists and no other path is given. */
const DEFAULT_CONFIG_FILE = 'rejoinder.yaml';

/** Variables of wider use that we honour, each below its own `REJOINDER_…` name. */
const WELL_KNOWN: readonly (readonly [variable: string, key: string])[] = [
  ['DATABASE_URL', 'database.url'],
  ['TEMPORAL_ADDRESS', 'temporal.address'],
  ['TEMPORAL_NAMESPACE', 'temporal.namespace'],
  ['OTEL_EXPORTER_OTLP_ENDPOINT', 'telemetry.otlp_endpoint'],
];

/** `REJOINDER_…` variables that are not settings: the file itself, the download cache, the client's server address, stack traces. */
const OTHER_VARIABLES = ['REJOINDER_CONFIG', 'REJOINDER_CACHE_DIR', 'REJOINDER_URL', 'REJOINDER_DEBUG'];

export type Tree = Record<string, unknown>;
export type Environment = Readonly<Record<string, string | undefined>>;

/** A file that is not there or not YAML; `where` names file and line. */
export interface SourceProblem {
  readonly expected: string;
  readonly where: string;
}

export interface Source {
  readonly tree: Tree;
  /** Says where the value at `path` came from: file and line, or the variable. */
  readonly whereIs: (path: readonly PropertyKey[]) => string;
}

/** The variable that sets `key`: `listeners.operator.port` is `REJOINDER_LISTENERS_OPERATOR_PORT`. */
export function variableOf(key: string): string {
  return `REJOINDER_${key.replaceAll('.', '_').toUpperCase()}`;
}

/** Variables that look like ours and set nothing: a typing error, most likely. */
export function unknownVariables(env: Environment): string[] {
  const known = new Set([...SETTING_KEYS.map(({ key }) => variableOf(key)), ...OTHER_VARIABLES]);
  return Object.keys(env).filter((name) => name.startsWith('REJOINDER_') && !known.has(name));
}

/** The environment without anything that configures us: for a server of its own beside the configured one. */
export function withoutSettings(env: Environment): Environment {
  const names = new Set([
    ...WELL_KNOWN.map(([variable]) => variable),
    ...SETTING_KEYS.map(({ key }) => variableOf(key)),
    'REJOINDER_CONFIG',
    'REJOINDER_URL',
  ]);
  return Object.fromEntries(Object.entries(env).filter(([name]) => !names.has(name)));
}

/** The file to read: the one asked for, `REJOINDER_CONFIG`, or rejoinder.yaml in the working folder if there is one. */
export function findConfigFile(path: string | undefined, env: Environment): string | undefined {
  const asked = path ?? env['REJOINDER_CONFIG'];
  if (asked !== undefined && asked !== '') return resolve(asked);
  return existsSync(DEFAULT_CONFIG_FILE) ? resolve(DEFAULT_CONFIG_FILE) : undefined;
}

/** Relative paths in the settings start here. */
export function baseDirectory(file: string | undefined): string {
  return file === undefined ? resolve('.') : dirname(file);
}

/** Reads a configuration file in YAML, or says what is wrong with it and where. `example`: a line of such a file. */
export function readFileSource(file: string, example = 'server_name: example.org'): Source | SourceProblem {
  let body: string;
  try {
    body = readFileSync(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    return { expected: `a readable file (${code})`, where: file };
  }
  const lines = new LineCounter();
  // Aliases are of no use in a file this small, and refusing them keeps a hostile one from growing in memory.
  const document = parseDocument(body, { lineCounter: lines, uniqueKeys: true });
  const broken = document.errors[0];
  if (broken !== undefined) {
    const line = lines.linePos(broken.pos[0]).line;
    return { expected: `YAML: ${broken.message.split('\n')[0] ?? ''}`, where: `${file}:${line}` };
  }
  let tree: unknown;
  try {
    tree = document.toJS({ maxAliasCount: 0 });
  } catch {
    return { expected: 'YAML without aliases', where: file };
  }
  if (tree !== null && (typeof tree !== 'object' || Array.isArray(tree))) {
    return { expected: `keys with values, such as "${example}"`, where: `${file}:1` };
  }
  return {
    tree: withEmptySections((tree ?? {}) as Tree, ''),
    whereIs: (path) => {
      const offset = offsetOf(document, path);
      return offset === undefined ? file : `${file}:${lines.linePos(offset).line}`;
    },
  };
}

/** A section whose keys are all commented out reads as null in YAML: it is there and empty. */
function withEmptySections(tree: Tree, prefix: string): Tree {
  const entries = Object.entries(tree).map(([name, value]) => {
    const section = `${prefix}${name}.`;
    const isSection = SETTING_KEYS.some(({ key }) => key.startsWith(section));
    if (isSection && value === null) return [name, {}];
    return [name, isSection && isTree(value) ? withEmptySections(value, section) : value];
  });
  return Object.fromEntries(entries) as Tree;
}

/** Where the key (or list item) at `path` starts, or else the nearest of its parents that is there. */
function offsetOf(document: Document, path: readonly PropertyKey[]): number | undefined {
  if (path.length === 0) return undefined;
  const parent = document.getIn(path.slice(0, -1), true);
  const pair = isMap(parent) ? parent.items.find(({ key }) => isScalar(key) && key.value === path.at(-1)) : undefined;
  const node = pair === undefined ? document.getIn(path, true) : pair.key;
  return isNode(node) && node.range ? node.range[0] : offsetOf(document, path.slice(0, -1));
}

/** Reads the settings that are given as environment variables; empty ones count as absent. */
export function readEnvironment(env: Environment): Source {
  const tree: Tree = {};
  const origins = new Map<string, string>();
  const take = (variable: string, key: string, kind: SettingKind): void => {
    const value = env[variable];
    if (value === undefined || value === '') return;
    setIn(tree, key.split('.'), parseVariable(value, kind));
    origins.set(key, variable);
  };
  for (const [variable, key] of WELL_KNOWN) take(variable, key, 'text');
  for (const { key, kind } of SETTING_KEYS) take(variableOf(key), key, kind);
  return {
    tree,
    whereIs: (path) => {
      const key = path.map(String);
      while (key.length > 0 && !origins.has(key.join('.'))) key.pop();
      return `environment variable ${origins.get(key.join('.')) ?? ''}`;
    },
  };
}

/** Lists are comma-separated; anything richer is YAML in one line. */
function parseVariable(value: string, kind: SettingKind): unknown {
  if (kind === 'text') return value;
  if (kind === 'list' && !value.startsWith('[')) return value.split(',').map((item) => item.trim());
  try {
    return parse(value, { maxAliasCount: 0 });
  } catch {
    return value;
  }
}

function setIn(tree: Tree, path: readonly string[], value: unknown): void {
  const [head, ...rest] = path;
  if (head === undefined) return;
  if (rest.length === 0) {
    tree[head] = value;
    return;
  }
  const inner = isTree(tree[head]) ? tree[head] : {};
  tree[head] = inner;
  setIn(inner, rest, value);
}

/** Whether a value is an object with further keys, no list. */
function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `over` wins, key by key; lists are replaced whole. */
export function mergeTrees(under: Tree, over: Tree): Tree {
  const merged: Tree = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const below = merged[key];
    if (value === undefined) continue;
    merged[key] = isTree(below) && isTree(value) ? mergeTrees(below, value) : value;
  }
  return merged;
}

/** The value at `path`, or `undefined`. */
export function getIn(tree: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    tree,
  );
}
