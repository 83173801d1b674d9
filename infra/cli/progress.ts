import type { ConnectorState } from '../../shared/management/status.ts';
import { statusLines } from './connectors.ts';
import { count, seconds, writeLine } from './output.ts';

export interface Progress {
  show(states: readonly ConnectorState[]): void;
  /** Leaves what was shown as it is. */
  end(): void;
}

/** A table that is drawn over itself on a terminal; elsewhere a line per connector when its figures changed, at most once a second. */
export const startProgress = (stream: NodeJS.WriteStream, startMs: number): Progress =>
  stream.isTTY && process.env.TERM !== 'dumb' ? liveTable(stream, startMs) : plainLines(startMs);

const liveTable = (stream: NodeJS.WriteStream, startMs: number): Progress => {
  let drawn = 0;
  return {
    show(states) {
      const lines = [...statusLines(states), seconds(Date.now() - startMs)];
      const up = drawn === 0 ? '' : `\x1b[${drawn}A`;
      stream.write(up + lines.map((line) => `\x1b[2K${line}\n`).join(''));
      drawn = lines.length;
    },
    end() {
      drawn = 0;
    },
  };
};

const plainLines = (startMs: number): Progress => {
  const shown = new Map<string, string>();
  let lastMs = 0;
  return {
    show(states) {
      const nowMs = Date.now();
      if (nowMs - lastMs < 1_000 && lastMs !== 0) return;
      lastMs = nowMs;
      for (const { row, tasks, lagRecords } of states) {
        const records = tasks.reduce((sum, task) => sum + task.row.records, 0);
        const text = `${row.name}: ${count(records)} records${lagRecords ? `, ${count(lagRecords)} to go` : ''}`;
        if (shown.get(row.name) === text) continue;
        shown.set(row.name, text);
        writeLine(`${seconds(nowMs - startMs).padStart(8)}  ${text}`);
      }
    },
    end() {},
  };
};
