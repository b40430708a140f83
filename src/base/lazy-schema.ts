/**
 * Schemas that are made when something is first read by them. The library that makes them is a third of what a thread of bulk work would load,
 * and threads read nothing by schemas: docs/decisions/0231-what-threads-load.md.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { z } from 'zod';

type SchemaLibrary = { readonly z: typeof z };

const load = createRequire(import.meta.url);

/** The schema that `make` makes, the same each time. */
export function lazySchema<Schema extends z.ZodType>(make: (library: typeof z) => Schema): () => Schema {
  let made: Schema | null = null;
  return () => (made ??= make(schemaLibrary()));
}

/** The very module that others import: what is asked for by `require` itself would be a second copy. */
function schemaLibrary(): typeof z {
  return (load(fileURLToPath(import.meta.resolve('zod'))) as SchemaLibrary).z;
}
