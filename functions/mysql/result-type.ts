/** A column of a result as the server describes it. */
export interface ResultColumn {
  readonly name: string;
  readonly columnType: number;
  /** Of a decimal its characters, of bit its bits, of text bytes. */
  readonly columnLength: number;
  readonly characterSet: number;
  readonly flags: number;
  readonly decimals: number;
  /** MariaDB's name of a type that goes as text or bytes: uuid, point. */
  readonly extendedTypeName?: string;
}

const NOT_NULL = 1;
const UNSIGNED = 32;
const ENUM = 256;
const SET = 2048;
const BINARY = 63;

/** The protocol's numbers of types that have one name. */
const names: ReadonlyMap<number, string> = new Map([
  ...([
    [1, 'tinyint'],
    [2, 'smallint'],
    [3, 'int'],
    [8, 'bigint'],
    [9, 'mediumint'],
    [4, 'float'],
    [5, 'double'],
  ] as const),
  ...([
    [10, 'date'],
    [14, 'date'],
    [11, 'time'],
    [13, 'year'],
    [242, 'vector'],
    [245, 'json'],
    [255, 'geometry'],
  ] as const),
]);
const DECIMAL = new Set([0, 246]);
const BIT = 16;
const WALL_CLOCKS: ReadonlyMap<number, string> = new Map([
  [7, 'timestamp'],
  [12, 'datetime'],
]);
/** Decimals of a time that says none. */
const UNKNOWN_DIGITS = 31;

export const isNullable = ({ flags }: ResultColumn): boolean => (flags & NOT_NULL) === 0;

/** The type as information_schema writes it. */
export const typeOf = (column: ResultColumn): string => {
  const { columnType, columnLength, characterSet, flags, decimals, extendedTypeName } = column;
  const unsigned = (flags & UNSIGNED) !== 0 ? ' unsigned' : '';
  if (extendedTypeName !== undefined) return extendedTypeName;
  if (DECIMAL.has(columnType)) {
    // A sign and a point have a character each.
    const precision = columnLength - (unsigned === '' ? 1 : 0) - (decimals > 0 ? 1 : 0);
    return `decimal(${precision},${decimals})${unsigned}`;
  }
  if (columnType === BIT) return `bit(${columnLength})`;
  const clock = WALL_CLOCKS.get(columnType);
  if (clock !== undefined) return `${clock}(${decimals === UNKNOWN_DIGITS ? 6 : decimals})`;
  const name = names.get(columnType);
  if (name !== undefined) return `${name}${unsigned}`;
  if ((flags & (ENUM | SET)) !== 0) return 'varchar';
  return characterSet === BINARY ? 'varbinary' : 'varchar';
};
