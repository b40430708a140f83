/** Databases that backups of databases and tables may be taken of, and restored into. */
import { InputError } from '../../base/index.ts';

/** Atoll's own, and those that databases are made of: of no tenant. */
const NOT_TENANTS: readonly string[] = ['system', 'template0', 'template1'];
/** Postgres cuts longer names off (`NAMEDATALEN` less its end). */
const NAME_BYTES_MAX = 63;

/** @throws InputError `parameter_invalid` */
export function requireTenantsDatabase(database: string, { hint }: { readonly hint: string }): void {
  if (!NOT_TENANTS.includes(database)) return;
  throw new InputError('parameter_invalid', `database "${database}" belongs to the virtual cluster itself`, {
    hint,
  });
}

/** For a database that is to be made. @throws InputError `name_invalid` for what would become another name, or none */
export function requireDatabaseName(name: string): void {
  const bytes = Buffer.byteLength(name);
  if (bytes > 0 && bytes <= NAME_BYTES_MAX && !name.includes('\0')) return;
  throw new InputError(
    'name_invalid',
    `"${name.slice(0, NAME_BYTES_MAX)}" cannot be the name of a database`,
    {
      hint: `a name has 1 to ${NAME_BYTES_MAX} bytes, this one has ${bytes}`,
    },
  );
}
