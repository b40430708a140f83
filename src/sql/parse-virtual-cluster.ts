import type {
  AlterVirtualClusterAction,
  CapabilityList,
  ReplicationSource,
  Statement,
  StreamOptions,
  Value,
} from './ast.ts';
import { parseAsOf } from './parse-backup.ts';
import { parseOptions } from './parse-options.ts';
import { parseSettingAssignment, parseSettingName } from './parse-settings.ts';
import { parseList, parseScalar, parseText, parseValue } from './parse-value.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

/** `TENANT` is the old spelling of `VIRTUAL CLUSTER`. */
export const VIRTUAL_CLUSTER_RULES: readonly Rule[] = [
  rule('create virtual cluster', 'create_virtual_cluster', parseCreate),
  rule('create tenant', 'create_virtual_cluster', parseCreate),
  rule('alter virtual cluster', 'alter_virtual_cluster', parseAlter),
  rule('alter tenant', 'alter_virtual_cluster', parseAlter),
  rule('drop virtual cluster', 'drop_virtual_cluster', parseDrop),
  rule('drop tenant', 'drop_virtual_cluster', parseDrop),
  rule('show virtual clusters', 'show_virtual_clusters', (stream) => parseShow(stream, undefined)),
  rule('show tenants', 'show_virtual_clusters', (stream) => parseShow(stream, undefined)),
  rule('show virtual cluster', 'show_virtual_clusters', (stream) =>
    parseShow(stream, stream.hyphenatedName()),
  ),
  rule('show tenant', 'show_virtual_clusters', (stream) => parseShow(stream, stream.hyphenatedName())),
  rule('show timeline for virtual cluster', 'show_timeline', (stream) => ({
    kind: 'show_timeline',
    name: stream.hyphenatedName(),
  })),
  rule('show timeline for tenant', 'show_timeline', (stream) => ({
    kind: 'show_timeline',
    name: stream.hyphenatedName(),
  })),
  ...['virtual cluster', 'tenant'].map((words) =>
    rule(`show timeline retention for ${words}`, 'show_timeline_retention', (stream) => ({
      kind: 'show_timeline_retention',
      name: stream.hyphenatedName(),
    })),
  ),
  rule('show timeline checks for virtual cluster', 'show_timeline_checks', (stream) => ({
    kind: 'show_timeline_checks',
    name: stream.hyphenatedName(),
  })),
  rule('show timeline checks for tenant', 'show_timeline_checks', (stream) => ({
    kind: 'show_timeline_checks',
    name: stream.hyphenatedName(),
  })),
  rule('show salvage for virtual cluster', 'show_salvage', (stream) => ({
    kind: 'show_salvage',
    name: stream.hyphenatedName(),
  })),
  rule('show salvage for tenant', 'show_salvage', (stream) => ({
    kind: 'show_salvage',
    name: stream.hyphenatedName(),
  })),
  ...['virtual cluster', 'tenant'].map((words) =>
    rule(`show experimental_fingerprints from ${words}`, 'show_fingerprints', (stream) => ({
      kind: 'show_fingerprints',
      name: stream.hyphenatedName(),
      asOf: parseAsOf(stream),
    })),
  ),
  rule('create replication stream of virtual cluster', 'create_replication_stream', (stream) => ({
    kind: 'create_replication_stream',
    name: stream.hyphenatedName(),
    after: stream.acceptWords('after') ? parseText(stream) : undefined,
  })),
  rule('alter replication stream', 'report_replication_stream', (stream) => {
    const streamId = parseScalar(stream);
    stream.expectWords('report');
    return { kind: 'report_replication_stream', streamId, report: parseText(stream) };
  }),
  rule('drop replication stream', 'drop_replication_stream', (stream) => ({
    kind: 'drop_replication_stream',
    streamId: parseScalar(stream),
  })),
  rule('show virtual_cluster_name', 'show_virtual_cluster_name', () => ({
    kind: 'show_virtual_cluster_name',
  })),
];

function parseCreate(stream: TokenStream): Statement {
  const ifNotExists = stream.acceptWords('if', 'not', 'exists');
  const name = stream.hyphenatedName();
  const like = stream.acceptWords('like') ? stream.hyphenatedName() : undefined;
  const replication = stream.acceptWords('from', 'replication') ? parseReplicationSource(stream) : undefined;
  const from = replication === undefined ? parseBranchSource(stream) : undefined;
  return { kind: 'create_virtual_cluster', ifNotExists, name, like, from, replication };
}

/** `OF name ON 'uri' [WITH options]` */
function parseReplicationSource(stream: TokenStream): ReplicationSource {
  stream.expectWords('of');
  const source = stream.hyphenatedName();
  stream.expectWords('on');
  const uri = parseText(stream);
  return { source, uri, options: parseStreamOptions(stream) };
}

/** `WITH a, b = c` or `WITH OPTIONS (a, b = c)`, or nothing. */
function parseStreamOptions(stream: TokenStream): StreamOptions {
  if (!stream.acceptWords('with')) return NO_STREAM_OPTIONS;
  if (!stream.acceptWords('options')) return parseStreamOptionList(stream);
  stream.expectSymbol('(');
  const options = parseStreamOptionList(stream);
  stream.expectSymbol(')');
  return options;
}

const NO_STREAM_OPTIONS: StreamOptions = {
  readVirtualCluster: false,
  retention: undefined,
  expirationWindow: undefined,
};

/** None given twice. @throws InputError `syntax` */
function parseStreamOptionList(stream: TokenStream): StreamOptions {
  let options = NO_STREAM_OPTIONS;
  const given = new Set<string>();
  do {
    const { begin } = stream.peek();
    const option = parseStreamOption(stream);
    for (const name of Object.keys(option)) {
      if (given.has(name)) throw stream.errorAt(begin, 'option given twice');
      given.add(name);
    }
    options = { ...options, ...option };
  } while (stream.acceptSymbol(','));
  return options;
}

function parseStreamOption(stream: TokenStream): Partial<StreamOptions> {
  if (stream.acceptWords('read', 'virtual', 'cluster')) return { readVirtualCluster: true };
  if (stream.acceptWords('retention')) {
    stream.expectSymbol('=');
    return { retention: parseText(stream) };
  }
  stream.expectWords('expiration', 'window');
  stream.expectSymbol('=');
  return { expirationWindow: parseText(stream) };
}

type BranchSource = Extract<Statement, { kind: 'create_virtual_cluster' }>['from'];

function parseBranchSource(stream: TokenStream): BranchSource {
  if (!stream.acceptWords('from')) return undefined;
  expectVirtualCluster(stream);
  const source = stream.hyphenatedName();
  return { source, asOf: parseAsOf(stream) };
}

function expectVirtualCluster(stream: TokenStream): void {
  if (!stream.acceptWords('tenant')) stream.expectWords('virtual', 'cluster');
}

function parseDrop(stream: TokenStream): Statement {
  const ifExists = stream.acceptWords('if', 'exists');
  const name = stream.hyphenatedName();
  return { kind: 'drop_virtual_cluster', ifExists, name, immediate: stream.acceptWords('immediate') };
}

function parseShow(stream: TokenStream, name: string | undefined): Statement {
  const items = stream.acceptWords('with') ? parseList(stream, parseShowItem) : [];
  return {
    kind: 'show_virtual_clusters',
    name,
    withCapabilities: items.includes('capabilities'),
    withReplicationStatus: items.includes('replication_status'),
    withDropped: items.includes('dropped'),
    withSuspension: items.includes('suspension'),
  };
}

function parseShowItem(
  stream: TokenStream,
): 'capabilities' | 'replication_status' | 'dropped' | 'suspension' {
  if (stream.acceptWords('capabilities')) return 'capabilities';
  if (stream.acceptWords('dropped')) return 'dropped';
  if (stream.acceptWords('suspension')) return 'suspension';
  stream.expectWords('replication', 'status');
  return 'replication_status';
}

function parseAlter(stream: TokenStream): Statement {
  const name = stream.hyphenatedName();
  return { kind: 'alter_virtual_cluster', name, action: parseAction(stream) };
}

function parseAction(stream: TokenStream): AlterVirtualClusterAction {
  const found = ACTIONS.find(({ words }) => stream.acceptWords(...words));
  return found === undefined ? failInsideAction(stream) : found.parse(stream);
}

interface ActionRule {
  readonly words: readonly string[];
  readonly parse: (stream: TokenStream) => AlterVirtualClusterAction;
}

const ACTIONS: readonly ActionRule[] = [
  {
    words: ['start', 'service', 'shared'],
    parse: (stream) => ({ kind: 'start_service_shared', withForce: stream.acceptWords('with', 'force') }),
  },
  { words: ['pause', 'replication'], parse: () => ({ kind: 'pause_replication' }) },
  { words: ['resume', 'replication'], parse: () => ({ kind: 'resume_replication' }) },
  { words: ['complete', 'replication', 'to'], parse: parseComplete },
  {
    words: ['start', 'replication'],
    parse: (stream) => ({ kind: 'start_replication', ...parseReplicationSource(stream) }),
  },
  {
    words: ['set', 'replication', 'source', 'expiration', 'window'],
    parse: (stream) => {
      stream.expectSymbol('=');
      return { kind: 'set_replication_source', expirationWindow: parseText(stream) };
    },
  },
  {
    words: ['set', 'replication'],
    parse: (stream) => ({ kind: 'set_replication', options: parseStreamOptionList(stream) }),
  },
  { words: ['stop', 'service'], parse: () => ({ kind: 'stop_service' }) },
  {
    words: ['rename', 'to'],
    parse: (stream) => ({ kind: 'rename_to', name: stream.hyphenatedName() }),
  },
  {
    words: ['grant'],
    parse: (stream) => ({ kind: 'grant_capabilities', capabilities: parseCapabilities(stream) }),
  },
  {
    words: ['revoke'],
    parse: (stream) => ({ kind: 'revoke_capabilities', capabilities: parseCapabilities(stream) }),
  },
  {
    words: ['set', 'cluster', 'setting'],
    parse: (stream) => ({ kind: 'set_cluster_setting', ...parseSettingAssignment(stream) }),
  },
  {
    words: ['reset', 'cluster', 'setting'],
    parse: (stream) => ({ kind: 'reset_cluster_setting', name: parseSettingName(stream) }),
  },
  { words: ['reset', 'data', 'to'], parse: parseResetData },
  {
    words: ['check', 'timeline'],
    parse: (stream) => ({ kind: 'check_timeline', asOf: parseAsOf(stream) }),
  },
  { words: ['undrop'], parse: () => ({ kind: 'undrop' }) },
  {
    words: ['set', 'suspend', 'after'],
    parse: (stream) =>
      stream.acceptWords('off')
        ? { kind: 'reset_suspend_after' }
        : { kind: 'set_suspend_after', after: parseScalar(stream) },
  },
  { words: ['reset', 'suspend', 'after'], parse: () => ({ kind: 'reset_suspend_after' }) },
  {
    words: ['set', 'continuous', 'backup'],
    parse: (stream) => {
      if (stream.acceptWords('off')) return { kind: 'reset_continuous_backup' };
      stream.expectWords('into');
      const location = parseText(stream);
      return {
        kind: 'set_continuous_backup',
        location,
        options: parseOptions(stream, 'alter_virtual_cluster'),
      };
    },
  },
  { words: ['reset', 'continuous', 'backup'], parse: () => ({ kind: 'reset_continuous_backup' }) },
];

function parseComplete(stream: TokenStream): AlterVirtualClusterAction {
  if (stream.acceptWords('latest')) {
    const to = stream.acceptWords('with', 'drain') ? 'latest_drained' : 'latest';
    return { kind: 'complete_replication', to };
  }
  stream.expectWords('system', 'time');
  const to = parseScalar(stream);
  if (stream.isWords('with', 'drain')) {
    stream.refuse(
      'WITH DRAIN goes with COMPLETE REPLICATION TO LATEST alone',
      'a drained source has nothing after its end, and losing nothing means to take all of it',
    );
  }
  return { kind: 'complete_replication', to };
}

function parseResetData(stream: TokenStream): AlterVirtualClusterAction {
  expectVirtualCluster(stream);
  const source = stream.hyphenatedName();
  const asOf = parseAsOf(stream);
  return asOf === undefined ? stream.fail() : { kind: 'reset_data', source, asOf };
}

/** Points behind the words that were right: at `EXTERNAL` in `START SERVICE EXTERNAL`. */
function failInsideAction(stream: TokenStream): never {
  for (const { words } of ACTIONS) {
    if (stream.word() === words[0]) stream.expectWords(...words);
  }
  return stream.fail();
}

function parseCapabilities(stream: TokenStream): CapabilityList {
  if (stream.acceptWords('all')) {
    stream.expectWords('capabilities');
    return { kind: 'all' };
  }
  stream.expectWords('capability');
  return { kind: 'some', capabilities: parseList(stream, parseCapability) };
}

function parseCapability(stream: TokenStream): { readonly name: string; readonly value: Value | undefined } {
  const name = stream.name();
  const hasValue = stream.acceptSymbol('=') || stream.acceptWords('to');
  return { name, value: hasValue ? parseValue(stream) : undefined };
}
