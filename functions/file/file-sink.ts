import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { defineSink, type OpenContext, type PutContext, type SinkTask } from '../../shared/connect/connector.ts';
import { isCode } from '../../shared/connect/errors.ts';
import { countWithin, type LaidOutFile, layOut } from './lay-out.ts';
import { openStore } from './open-store.ts';
import { pathPart } from './partition-path.ts';
import { parseS3 } from './path-config.ts';
import { FileSinkConfig } from './sink-config.ts';
import { formatOf } from './sink-format.ts';
import type { OpenStore } from './store.ts';
import {
  discard,
  inParallel,
  orphanAgeMs,
  parsePrepared,
  preparedFiles,
  promote,
  type StagedFile,
} from './two-phase.ts';

/** A prepared row names every file, and an item of the state table holds 400 KB. */
const maxFilesPerPut = 200;

/** Writes each batch as files that appear whole and once: staged, committed with the offsets, then promoted. */
export const createFileSink = (openStore: OpenStore) =>
  defineSink({
    type: 'file',
    config: FileSinkConfig,
    delivery: 'exactly-once',
    async check(context) {
      try {
        const { root, own } = placeOf(context);
        return await openStore(root).writer(root, own).check(context.signal);
      } catch (error) {
        return [(error as Error).message];
      }
    },
    open: async (context) => openTask(context, openStore),
  });

export const fileSink = createFileSink(openStore);

/** What names a task is in its paths, so that its orphans are told from what another one has prepared and not promoted for long. */
const placeOf = ({ config, ...self }: OpenContext<FileSinkConfig>) => ({
  root: parseS3(config.path) === undefined ? resolve(config.path) : config.path,
  own: [self.deployment, self.connector, self.incarnation, String(self.taskId)].map(pathPart).join('/'),
});

const openTask = (context: OpenContext<FileSinkConfig>, openStore: OpenStore): SinkTask => {
  const { root, own } = placeOf(context);
  const writer = openStore(root).writer(root, own);
  const format = formatOf(context.config);
  const { partitionBy } = context.config;
  let swept = false;
  let lastMs = 0;

  const stageAll = async (files: readonly LaidOutFile[], id: string, put: PutContext): Promise<StagedFile[]> => {
    const staged: StagedFile[] = [];
    lastMs = Math.max(Date.now(), lastMs + 1);
    try {
      await inParallel(files, writer.width, async ({ builder, topic, directory }, index) => {
        put.signal.throwIfAborted();
        const final = `${directory}/${finalName(topic, lastMs, writer.markOf(id), index)}.${format.extension}`;
        staged.push(await writer.stage({ final, id: `${id}-${index}` }, await builder.finish(), put.signal));
        builder.release?.();
      });
      return staged;
    } catch (error) {
      await discard(writer, staged);
      throw error;
    }
  };

  return {
    ...(partitionBy.length === 0
      ? {}
      : { take: (batch) => Math.max(1, countWithin(batch, partitionBy, maxFilesPerPut)) }),

    async put(batch, put) {
      const { files, rejected } = layOut(batch, format, partitionBy);
      if (rejected.length > 0) await put.reject(rejected);
      if (files.length === 0) return { committed: false };
      // After every prepared batch of this task was promoted.
      if (!swept) await writer.sweep(orphanAgeMs);
      swept = true;
      const id = randomUUID();
      const stagedAtMs = Date.now();
      const prepared = preparedFiles(root, stagedAtMs, await stageAll(files, id, put));
      try {
        await put.commit({ id, data: prepared });
      } catch (error) {
        // Only a fence says for sure that no prepared row names these files.
        if (isCode(error, 'FENCED')) await discard(writer, prepared.files);
        throw error;
      }
      await promote(writer, prepared);
      return { committed: true };
    },

    async promote({ data }) {
      const prepared = parsePrepared(data);
      await promote(openStore(prepared.root).writer(prepared.root, own), prepared);
    },

    async close() {},
  };
};

/**
 * Recorded in the prepared row, so it need not be made again. A batch is staged after the one before it was committed: so the records of
 * a key are in order over files in the order of their names. By time, because a batch has records of many queues, and the commits of
 * one say nothing about another's; and because it goes on when a queue gets another task.
 */
const finalName = (topic: string, atMs: number, mark: string, index: number): string =>
  `${pathPart(topic)}-${atMs}-${mark}${index === 0 ? '' : `-${index}`}`;
