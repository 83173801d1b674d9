import { isListed, listFiles } from './list-files.ts';
import { locate } from './locate-file.ts';
import type { FileSourceConfig } from './source-config.ts';
import type { FileReader, FoundFile } from './store.ts';

export const directoryReader = (config: Pick<FileSourceConfig, 'path' | 'slice'>): FileReader => {
  const finished = new Map<string, number>();
  return {
    async *list() {
      const names = await listFiles(config);
      const found: FoundFile[] = [];
      const add = (name: string) =>
        found.push({
          name,
          locate: (offsets, signal) => locate(name, { path: config.path, names, addName, offsets, finished, signal }),
        });
      // A file that is renamed after the listing is looked at under its new name at the end of it.
      const addName = (name: string): boolean => {
        if (!isListed(config, name)) return false;
        names.push(name);
        add(name);
        return true;
      };
      for (const name of names) add(name);
      yield found;
    },
    // Each file says itself why it can't be read.
    check: async () => [],
    async close() {},
  };
};
