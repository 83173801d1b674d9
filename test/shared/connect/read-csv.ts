/** RFC 4180 as it is written there: a field is null where it is empty without quotes. */
export const readCsv = (text: string): (string | null)[][] => {
  const lines: (string | null)[][] = [];
  let line: (string | null)[] = [];
  let at = 0;
  while (at < text.length) {
    const field = /"((?:[^"]|"")*)"|([^",\n]*)/y;
    field.lastIndex = at;
    const [all, quoted, plain] = field.exec(text)!;
    line.push(quoted !== undefined ? quoted.replaceAll('""', '"') : plain === '' ? null : plain!);
    at += all.length;
    const end = text[at++];
    if (end === '\n') {
      lines.push(line);
      line = [];
    } else if (end !== ',')
      throw new Error(`no comma and no line end at ${at - 1}: ${JSON.stringify(text.slice(at - 20, at))}`);
  }
  if (line.length > 0) throw new Error('the last line has no end');
  return lines;
};
