import type fc from 'fast-check';
import type { Flavour } from '../kit/mysql-server.ts';

/** A column type of a source and what is written into it. */
export interface SourceColumn {
  readonly type: string;
  /** Literals of SQL: any of its range, and besides them always its ends and what is odd. */
  readonly values: fc.Arbitrary<string>;
  readonly edges: readonly string[];
  /** Who has it, where not both do. */
  readonly only?: Flavour;
  /** The value as the server itself writes it, where a cast to text does not say all of it. */
  readonly text?: (column: string) => string;
}
