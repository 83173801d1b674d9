import { stringify } from 'yaml';
import { inferSchema } from '../../functions/file/infer.ts';
import type { Answer } from './output.ts';

/** Reads a whole file and prints a `fields` block to paste into a pipeline. */
export const infer = async (file: string): Promise<Answer> => {
  const { fields, notes } = await inferSchema(file);
  return { lines: [...notes.map((note) => `# ${note}`), stringify({ fields }).trimEnd()], result: { fields, notes } };
};
