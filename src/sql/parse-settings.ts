import type { Statement, Value } from './ast.ts';
import { parseValue } from './parse-value.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

export const SETTING_RULES: readonly Rule[] = [
  rule('set cluster setting', 'set_cluster_setting', (stream) => ({
    kind: 'set_cluster_setting',
    ...parseSettingAssignment(stream),
  })),
  rule('reset cluster setting', 'reset_cluster_setting', (stream) => ({
    kind: 'reset_cluster_setting',
    name: parseSettingName(stream),
  })),
  ...['set', 'set session', 'set local', 'reset'].map((words) =>
    rule(`${words} virtual_cluster_name`, 'show_virtual_cluster_name', refuseSetName),
  ),
  rule('show cluster setting', 'show_cluster_setting', (stream) => ({
    kind: 'show_cluster_setting',
    name: parseSettingName(stream),
    forVirtualCluster: parseForVirtualCluster(stream),
  })),
  rule('show cluster settings', 'show_cluster_settings', (stream) => showSettings(stream, 'public')),
  rule('show public cluster settings', 'show_cluster_settings', (stream) => showSettings(stream, 'public')),
  rule('show all cluster settings', 'show_cluster_settings', (stream) => showSettings(stream, 'all')),
];

/** The session is where it is: a connection to another virtual cluster is another connection. */
function refuseSetName(stream: TokenStream): never {
  stream.refuseReadOnly('virtual_cluster_name', 'connect with options=-ccluster=NAME to be in another one');
}

function showSettings(stream: TokenStream, visibility: 'public' | 'all'): Statement {
  return { kind: 'show_cluster_settings', visibility, forVirtualCluster: parseForVirtualCluster(stream) };
}

/** `name = value`, `name TO value`, `name = DEFAULT`. @throws InputError `syntax` */
export function parseSettingAssignment(stream: TokenStream): {
  readonly name: string;
  readonly value: Value | 'default';
} {
  const name = parseSettingName(stream);
  if (!stream.acceptSymbol('=')) stream.expectWords('to');
  return { name, value: stream.acceptWords('default') ? 'default' : parseValue(stream) };
}

/** A dotted name; the words after a dot may be reserved ones. @throws InputError `syntax` */
export function parseSettingName(stream: TokenStream): string {
  const parts = [stream.name()];
  while (stream.acceptSymbol('.')) parts.push(stream.anyName());
  return parts.join('.');
}

function parseForVirtualCluster(stream: TokenStream): string | undefined {
  if (!stream.acceptWords('for')) return undefined;
  if (!stream.acceptWords('tenant')) stream.expectWords('virtual', 'cluster');
  return stream.hyphenatedName();
}
