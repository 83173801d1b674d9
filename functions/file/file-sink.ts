import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { defineSink, type OpenContext, type PutContext, type SinkTask } from '../../shared/connect/connector.ts';
import { isCode } from '../../shared/connect/errors.ts';
import { countWithin, type LaidOutFile, layOut } from './lay-out.ts';
import { pathPart } from './partition-path.ts';
import { FileSinkConfig } from './sink-config.ts';
import { formatOf } from './sink-format.ts';
import { directoryStore, type OpenStore } from './store.ts';
import {
  discard,
  type PreparedFiles,
  parsePrepared,
  promote,
  type StagedFile,
  stage,
  stagingDirectory,
  sweepOrphans,
} from './two-phase.ts';

/** A prepared row names every file, and an item of the state table holds 400 KB. */
const maxFilesPerPut = 200;

/** Writes each batch as files that appear whole and once: staged, committed with the offsets, then renamed. */
export const createFileSink = (openStore: OpenStore) =>
  defineSink({
    type: 'file',
    config: FileSinkConfig,
    delivery: 'exactly-once',
    async check({ config }) {
      const store = openStore(resolve(config.path));
      const probe = `${stagingDirectory}/probe~${randomUUID()}`;
      try {
        await store.write(probe, new Uint8Array());
        await store.remove(probe);
        return [];
      } catch (error) {
        return [(error as Error).message];
      }
    },
    open: async (context) => openTask(context, openStore),
  });

export const fileSink = createFileSink(directoryStore);

const openTask = ({ config, ...self }: OpenContext<FileSinkConfig>, openStore: OpenStore): SinkTask => {
  const root = resolve(config.path);
  const store = openStore(root);
  const format = formatOf(config);
  const { partitionBy } = config;
  // A directory per task: its orphans are told from what another connector has prepared and not promoted for long.
  const own = [self.deployment, self.connector, self.incarnation, String(self.taskId)].map(pathPart).join('/');
  const stageDirectory = `${stagingDirectory}/${own}`;
  let swept = false;
  let lastMs = 0;

  const stageAll = async (files: readonly LaidOutFile[], id: string, put: PutContext): Promise<StagedFile[]> => {
    const staged: StagedFile[] = [];
    const stages: string[] = [];
    lastMs = Math.max(Date.now(), lastMs + 1);
    try {
      for (const [index, { builder, topic, directory }] of files.entries()) {
        put.signal.throwIfAborted();
        const names = {
          stage: `${stageDirectory}/${id}-${index}`,
          final: `${directory}/${finalName(topic, lastMs, id, index)}.${format.extension}`,
        };
        stages.push(names.stage);
        staged.push(await stage(store, names, await builder.finish()));
      }
      return staged;
    } catch (error) {
      await discard(store, stages);
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
      if (!swept) await sweepOrphans(store, stageDirectory);
      swept = true;
      const id = randomUUID();
      const staged = await stageAll(files, id, put);
      const prepared: PreparedFiles = { version: 1, root, stagedAtMs: Date.now(), files: staged };
      try {
        await put.commit({ id, data: prepared });
      } catch (error) {
        // Only a fence says for sure that no prepared row names these files.
        if (isCode(error, 'FENCED'))
          await discard(
            store,
            staged.map((file) => file.stage),
          );
        throw error;
      }
      await promote(store, prepared);
      return { committed: true };
    },

    async promote({ data }) {
      const prepared = parsePrepared(data);
      await promote(openStore(prepared.root), prepared);
    },

    async close() {},
  };
};

/**
 * Recorded in the prepared row, so it need not be made again. A batch is staged after the one before it was committed: so the records of
 * a key are in order over files in the order of their names. By time, because a batch has records of many queues, and the commits of
 * one say nothing about another's; and because it goes on when a queue gets another task.
 */
const finalName = (topic: string, atMs: number, id: string, index: number): string =>
  `${pathPart(topic)}-${atMs}-${id.slice(0, 8)}${index === 0 ? '' : `-${index}`}`;
