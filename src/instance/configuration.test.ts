import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  checkSettings,
  configurationFiles,
  DEFAULT_INSTANCE_SETTINGS,
  readSettings,
  writeConfiguration,
} from './configuration.ts';
import { directPrivileges } from './privileges/direct.ts';

test('parameters that are fixed, unknown in form or carry control characters are refused', () => {
  const refused: Record<string, string>[] = [
    { fsync: 'off' },
    { listen_addresses: '*' },
    { shared_preload_libraries: 'x' },
    { hba_file: '/tmp/x' },
    { unix_socket_directories: '/tmp' },
    { "a' = b": 'c' },
    { 'work_mem\nfsync': 'off' },
    { work_mem: '1MB\nfsync = off' },
    { include: 'other.conf' },
  ];
  for (const extra of refused) {
    assert.throws(() => checkSettings({ ...DEFAULT_INSTANCE_SETTINGS, extra }), {
      code: 'parameter_invalid',
    });
  }
  checkSettings({ ...DEFAULT_INSTANCE_SETTINGS, extra: { work_mem: '1MB', 'pg_stat_statements.max': '10' } });
});

/** Without any of them a base, a rewind or a moment would be wrong without a word. */
const TIMELINE_NEEDS = {
  wal_level: 'logical',
  summarize_wal: 'on',
  full_page_writes: 'on',
  fsync: 'on',
  archive_mode: 'off',
  allow_alter_system: 'off',
};

test('what the timeline needs cannot be had otherwise', () => {
  for (const name of Object.keys(TIMELINE_NEEDS)) {
    assert.throws(() => checkSettings({ ...DEFAULT_INSTANCE_SETTINGS, extra: { [name]: 'x' } }), {
      code: 'parameter_invalid',
    });
  }
});

test('connections and memory have bounds', () => {
  for (const maxConnections of [0, -1, 1.5, Number.NaN, 10_001]) {
    assert.throws(() => checkSettings({ ...DEFAULT_INSTANCE_SETTINGS, maxConnections }), {
      code: 'parameter_invalid',
    });
  }
  assert.throws(() => checkSettings({ ...DEFAULT_INSTANCE_SETTINGS, sharedBuffersBytes: 1024 }), {
    code: 'parameter_invalid',
  });
});

test('values are quoted, and settings are read back', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'atoll-conf-'));
  try {
    await chmod(directory, 0o700);
    const settings = { ...DEFAULT_INSTANCE_SETTINGS, extra: { search_path: `"it's", 'a\\b'` } };
    await writeConfiguration({
      directory,
      clusterName: 'main',
      socketDirectory: '/store/run/3',
      settings,
      engine: {
        directory: '',
        version: '18.4',
        major: 18,
        postgres: '',
        initdb: '',
        extensionControlPath: null,
      },
      user: null,
      privileges: directPrivileges(),
    });
    const text = await readFile(configurationFiles(directory).postgresql, 'utf8');
    assert.match(text, /^search_path = '"it''s", ''a\\\\b'''$/m);
    assert.match(text, /^listen_addresses = ''$/m);
    for (const [name, value] of Object.entries(TIMELINE_NEEDS)) {
      assert.deepEqual(text.match(new RegExp(`^${name} = .*$`, 'gm')), [`${name} = '${value}'`]);
    }
    assert.match(text, /^max_connections = '106'$/m);
    assert.deepEqual(await readSettings(directory), settings);
    await writeFile(join(directory, 'settings.json'), '{}');
    await assert.rejects(readSettings(directory), { code: 'data_corrupt' });
  } finally {
    await rm(directory, { recursive: true });
  }
});
