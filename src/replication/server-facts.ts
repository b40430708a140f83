/** What must be alike in two servers for one to go on with the files and the log of the other. */
import { required } from '../base/index.ts';

export interface ServerFacts {
  /** `180004` */
  readonly versionNumber: number;
  readonly catalogVersion: string;
  /** How data lies in files, as one text. */
  readonly layout: string;
}

interface Asker {
  query(sql: string): Promise<readonly Readonly<Record<string, string | null>>[]>;
}

/** Both of us are asked by this. */
export async function readServerFacts(client: Asker): Promise<ServerFacts> {
  const [row] = await client.query(
    `SELECT pg_catalog.current_setting('server_version_num') AS version, s.catalog_version_no::text AS catalog,
        pg_catalog.concat_ws('/', i.max_data_alignment, i.database_block_size, i.blocks_per_segment, i.wal_block_size,
          i.max_identifier_length, i.max_index_columns, i.max_toast_chunk_size, i.large_object_chunk_size, i.float8_pass_by_value) AS layout
       FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_init() i`,
  );
  return {
    versionNumber: Number(row?.['version']),
    catalogVersion: required(row?.['catalog'], 'version of the catalogs'),
    layout: required(row?.['layout'], 'layout of files'),
  };
}
