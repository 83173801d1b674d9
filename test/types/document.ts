import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

const path = fileURLToPath(new URL('../../docs/type-mapping.md', import.meta.url));

/** By name, rows of cells, the heads first. */
type Tables = { readonly [name: string]: readonly (readonly string[])[] };

/** The document has these tables between their marks; `npx vitest run test/types -u` writes them into it. */
export const documentWith = async (tables: Tables): Promise<void> => {
  let text = readFileSync(path, 'utf8');
  for (const [name, rows] of Object.entries(tables)) {
    const mark = `<!-- ${name} -->`;
    const end = '<!-- end -->';
    const [before, rest] = text.split(mark);
    expect(rest, `docs/type-mapping.md has no ${mark}`).toBeDefined();
    const after = rest!.slice(rest!.indexOf(end));
    const widths = rows[0]!.map(() => '---');
    const lines = [rows[0]!, widths, ...rows.slice(1)].map((cells) => `| ${cells.map(escaped).join(' | ')} |`);
    text = `${before}${mark}\n\n${lines.join('\n')}\n\n${after}`;
  }
  await expect(text).toMatchFileSnapshot(path);
};

const escaped = (text: string) => text.replaceAll('|', '\\|').replaceAll('<', '\\<');
