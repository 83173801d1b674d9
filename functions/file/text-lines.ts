import { string } from '../../shared/connect/schema.ts';
import { NEWLINE, RETURN } from './ascii.ts';
import { addRow, type RowReader } from './rows.ts';

/** A line is a row, and two integers: nothing is parsed. A line end is \n or \r\n. */
export const textLines = (): RowReader => ({
  read(window, rows, limit, final) {
    const { length } = window;
    const data = window.data.subarray(0, length);
    for (;;) {
      const { at } = rows;
      if (rows.count >= limit.rows || (rows.count > 0 && at >= limit.bytes)) return 'limit';
      const end = data.indexOf(NEWLINE, at);
      if (end >= 0) addRow(rows, at, end > at && data[end - 1] === RETURN ? end - 1 : end, end + 1, rows.line + 1);
      else if (final && at < length) addRow(rows, at, length, length, rows.line);
      else return 'more';
    }
  },
  sides: (rows, { data }) => ({
    value: {
      schema: string,
      columns: [
        {
          name: '',
          schema: string,
          kind: 'bytes',
          data,
          starts: rows.starts.subarray(0, rows.count),
          ends: rows.ends.subarray(0, rows.count),
        },
      ],
    },
  }),
});
