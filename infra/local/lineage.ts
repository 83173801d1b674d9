import { createHash, randomBytes } from 'node:crypto';

/** Lambda stops a function that was invoked this often in one chain of requests. */
const MAX_INVOCATIONS_IN_CHAIN = 16;

export interface Trace {
  /** For the function's environment; its SDK calls send it on. */
  traceId: string;
  recursive: boolean;
}

/** Continues the caller's chain (its X-Amzn-Trace-Id) or begins one, and counts this function in it. */
export function continueTrace(callerTraceId: string | undefined, functionName: string): Trace {
  const fields = new Map((callerTraceId ?? '').split(';').map((field) => field.split('=', 2) as [string, string]));
  const counts = new Map(
    (fields.get('Lineage') ?? '')
      .split('|')
      .filter(Boolean)
      .map((entry) => entry.split(':') as [string, string])
      .map(([hash, count]) => [hash, Number(count)]),
  );
  const hash = createHash('sha256').update(functionName).digest('hex').slice(0, 8);
  const invoked = counts.get(hash) ?? 0;
  counts.set(hash, invoked + 1);
  const root =
    fields.get('Root') ?? `1-${Math.floor(Date.now() / 1000).toString(16)}-${randomBytes(12).toString('hex')}`;
  const lineage = [...counts].map(([each, count]) => `${each}:${count}`).join('|');
  return {
    traceId: `Root=${root};Parent=${randomBytes(8).toString('hex')};Sampled=0;Lineage=${lineage}`,
    recursive: invoked >= MAX_INVOCATIONS_IN_CHAIN,
  };
}
