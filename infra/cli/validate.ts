import { ConnectError } from '../../shared/connect/errors.ts';
import { loadPipelineFile } from '../pipeline-file.ts';
import type { Answer } from './output.ts';

/** Every problem of every file at once. */
export const validate = async (files: readonly string[]): Promise<Answer> => {
  const problems: string[] = [];
  for (const file of files) {
    try {
      loadPipelineFile(file);
    } catch (thrown) {
      problems.push((thrown as Error).message);
    }
  }
  if (problems.length > 0) throw new ConnectError('CONFIG_INVALID', problems.join('\n'));
  return { lines: files.map((file) => `${file}: ok`), result: { files } };
};
