/** Zones and regions: ALTER ... CONFIGURE ZONE, ALTER DATABASE ... REGION, and what shows them. The rest of ALTER DATABASE and ALTER TABLE is Postgres's. */
import type { RegionAction, Statement, ZoneTarget, ZoneVariables } from './ast.ts';
import { parseSettingAssignment } from './parse-settings.ts';
import { parseTableName } from './parse-table-name.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

export const ZONE_RULES: readonly Rule[] = [
  rule('alter range', 'configure_zone', (stream) =>
    parseConfigure(stream, { kind: 'range', name: stream.anyName() }),
  ),
  {
    ...rule('alter database', 'configure_zone', (stream) =>
      parseConfigure(stream, { kind: 'database', name: stream.name() }),
    ),
    claims: (stream, ahead) => isName(stream, ahead) && areWords(stream, ahead + 1, 'configure', 'zone'),
  },
  {
    ...rule('alter table', 'configure_zone', (stream) =>
      parseConfigure(stream, { kind: 'table', table: parseTableName(stream) }),
    ),
    claims: (stream, ahead) => areWords(stream, afterDottedName(stream, ahead), 'configure', 'zone'),
  },
  {
    ...rule('alter database', 'alter_database_regions', (stream) => ({
      kind: 'alter_database_regions',
      database: stream.name(),
      action: parseRegionAction(stream),
    })),
    claims: claimsRegions,
  },
  // FROM is the older spelling.
  ...['for', 'from'].map((word) =>
    rule(`show zone configuration ${word}`, 'show_zone_configuration', (stream) => ({
      kind: 'show_zone_configuration',
      target: parseTarget(stream),
    })),
  ),
  ...['show zone configurations', 'show all zone configurations'].map((words) =>
    rule(words, 'show_zone_configurations', () => ({ kind: 'show_zone_configurations' })),
  ),
  rule('show regions from cluster', 'show_regions', () => showRegions({ kind: 'cluster' })),
  rule('show regions from all databases', 'show_regions', () => showRegions({ kind: 'all_databases' })),
  rule('show regions from database', 'show_regions', (stream) =>
    showRegions({ kind: 'database', name: stream.isEnd() ? undefined : stream.name() }),
  ),
  rule('show regions', 'show_regions', () => showRegions({ kind: 'all' })),
];

function showRegions(from: Extract<Statement, { kind: 'show_regions' }>['from']): Statement {
  return { kind: 'show_regions', from };
}

function isName(stream: TokenStream, at: number): boolean {
  const { kind } = stream.peek(at);
  return kind === 'identifier' || kind === 'quoted_identifier';
}

function areWords(stream: TokenStream, at: number, ...words: readonly string[]): boolean {
  return words.every((word, index) => stream.word(at + index) === word);
}

/** Behind `a.b.c`, or where it stands when that is no name. */
function afterDottedName(stream: TokenStream, from: number): number {
  let at = from;
  while (isName(stream, at) && stream.isSymbol('.', at + 1)) at += 2;
  return isName(stream, at) ? at + 1 : from;
}

/** `PRIMARY REGION`, `SET PRIMARY REGION`, `ADD REGION`, `DROP REGION` behind a name: Postgres has nothing of the kind. */
function claimsRegions(stream: TokenStream, ahead: number): boolean {
  if (!isName(stream, ahead)) return false;
  const at = ahead + 1;
  if (areWords(stream, at, 'set')) return areWords(stream, at + 1, 'primary', 'region');
  return ['primary', 'add', 'drop'].some((word) => areWords(stream, at, word, 'region'));
}

function parseRegionAction(stream: TokenStream): RegionAction {
  if (stream.acceptWords('add', 'region')) {
    const ifNotExists = stream.acceptWords('if', 'not', 'exists');
    return { kind: 'add', ifNotExists, region: parseRegion(stream) };
  }
  if (stream.acceptWords('drop', 'region')) {
    const ifExists = stream.acceptWords('if', 'exists');
    return { kind: 'drop', ifExists, region: parseRegion(stream) };
  }
  stream.acceptWords('set');
  stream.expectWords('primary', 'region');
  stream.acceptSymbol('=');
  return { kind: 'set_primary', region: parseRegion(stream) };
}

/** A name, which people also write as a string. */
function parseRegion(stream: TokenStream): string {
  return stream.peek().kind === 'string' ? stream.string() : stream.hyphenatedName();
}

function parseTarget(stream: TokenStream): ZoneTarget {
  if (stream.acceptWords('range')) return { kind: 'range', name: stream.anyName() };
  if (stream.acceptWords('database')) return { kind: 'database', name: stream.name() };
  stream.expectWords('table');
  return { kind: 'table', table: parseTableName(stream) };
}

/** `[[database.]schema.]table`. @throws InputError `syntax` */
function parseConfigure(stream: TokenStream, target: ZoneTarget): Statement {
  stream.expectWords('configure', 'zone');
  return { kind: 'configure_zone', target, variables: parseVariables(stream) };
}

/** `USING name = value, ...`, or `DISCARD`. @throws InputError `syntax` */
function parseVariables(stream: TokenStream): ZoneVariables {
  if (stream.acceptWords('discard')) return 'discard';
  stream.expectWords('using');
  const variables = [parseSettingAssignment(stream)];
  while (stream.acceptSymbol(',')) variables.push(parseSettingAssignment(stream));
  return variables;
}
