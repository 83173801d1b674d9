import { ConnectError } from '../../shared/connect/errors.ts';
import { type Connection, quote, sqlStateOf } from './client.ts';

const INSUFFICIENT_PRIVILEGE = '42501';

/** Lets a role read a table, as it is called in SQL with its schema. */
export const readGrants = (table: string, role: string): { readonly schema: string; readonly table: string } => ({
  schema: `GRANT USAGE ON SCHEMA ${table.slice(0, table.indexOf('.'))} TO ${quote(role)}`,
  table: `GRANT SELECT ON ${table} TO ${quote(role)}`,
});

/** What mends that the server refuses to read a table, or, where that is undefined, a query; undefined where it refuses something else. */
export const grantFor = async (
  connection: Connection,
  table: string | undefined,
  error: ConnectError,
): Promise<string | undefined> => {
  if (sqlStateOf(error) !== INSUFFICIENT_PRIVILEGE) return undefined;
  // A transaction that has failed answers nothing.
  await connection.run('ROLLBACK');
  const [account] = await connection.query<{ role: string }>('SELECT current_user AS role');
  const grants = readGrants(table ?? 'what the query reads', account!.role);
  return table !== undefined && error.message.includes('denied for schema')
    ? `${grants.schema}; ${grants.table}`
    : grants.table;
};

/** Does what reading a table takes; where the role may not read it, the error says what lets it. */
export const granted = async <T>(connection: Connection, table: string, work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (error) {
    const grant = error instanceof ConnectError ? await grantFor(connection, table, error) : undefined;
    if (grant === undefined) throw error;
    throw new ConnectError('CONFIG_INVALID', `${(error as Error).message}: ${grant}`, { cause: error });
  }
};
