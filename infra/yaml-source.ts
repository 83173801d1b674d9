import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import type { Problem } from './problems.ts';

/** A YAML or JSON file with the places of its keys. */
export interface YamlSource {
  /** Undefined where the syntax is wrong. */
  readonly value: unknown;
  /** What is wrong with the syntax. */
  readonly problems: readonly (Problem & { readonly line: number })[];
  /** The line of the key at the path, or of the nearest one above it that is there. */
  lineOf(path: readonly PropertyKey[]): number;
}

export const readYaml = (text: string): YamlSource => {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: true });
  const problems = [...document.errors, ...document.warnings].map(({ message, pos }) => ({
    path: [],
    message: message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, ''),
    line: lines.linePos(pos[0]).line,
  }));
  let value: unknown;
  try {
    if (problems.length === 0) value = document.toJS();
  } catch (thrown) {
    // An alias without its anchor, or one that would unfold without end.
    problems.push({ path: [], message: (thrown as Error).message, line: 1 });
  }
  return {
    value,
    problems,
    lineOf(path) {
      let node = document.contents as Node | null;
      let at = node?.range?.[0] ?? 0;
      for (const key of path) {
        const next = step(node, key);
        if (next === undefined) break;
        at = next.at;
        node = next.value;
      }
      return lines.linePos(at).line;
    },
  };
};

const step = (node: Node | null, key: PropertyKey): { at: number; value: Node | null } | undefined => {
  if (isMap(node)) {
    const pair = node.items.find((one) => isScalar(one.key) && String(one.key.value) === String(key));
    return pair && { at: (pair.key as Node).range![0], value: pair.value as Node | null };
  }
  if (!isSeq(node)) return undefined;
  const item = node.items[Number(key)] as Node | undefined;
  return item && { at: item.range![0], value: item };
};
