import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PROTOCOL_3_0, PROTOCOL_3_2, splitStartupOptions } from '../pg/index.ts';
import { readSessionRequest, takeClusterOption } from './startup.ts';

function request(parameters: Record<string, string>): ReturnType<typeof readSessionRequest> {
  return readSessionRequest({
    protocol: PROTOCOL_3_0,
    parameters: new Map(Object.entries({ user: 'u', ...parameters })),
  });
}

test('the cluster option is found in all spellings, wherever it stands', () => {
  for (const [options, name, rest] of [
    ['', undefined, []],
    ['-ccluster=main', 'main', []],
    ['-c cluster=main', 'main', []],
    ['--cluster=main', 'main', []],
    ['-ccluster%3Dmain', 'main', []],
    ['--cluster%3dmain', 'main', []],
    ['-c cluster%3Dmain', 'main', []],
    ['-ccluster%3Dmain%20-c%20search_path%3Dx', 'main', ['-c', 'search_path=x']],
    [
      '-c search_path=x -ccluster=main -c work_mem=1MB',
      'main',
      ['-c', 'search_path=x', '-c', 'work_mem=1MB'],
    ],
    ['-ccluster=a -ccluster=b', 'b', []],
    ['-ccluster=', '', []],
    ['-cclusterx=main', undefined, ['-cclusterx=main']],
    ['-c application_name=cluster=x', undefined, ['-c', 'application_name=cluster=x']],
    ['-c application_name=-ccluster=x', undefined, ['-c', 'application_name=-ccluster=x']],
    ['-c', undefined, ['-c']],
    ['-ccluster%3D%zz', undefined, ['-ccluster%3D%zz']],
  ] as const) {
    assert.deepEqual(
      takeClusterOption(splitStartupOptions(options)),
      { virtualClusterName: name, rest: [...rest] },
      options,
    );
  }
});

test('what else stands in options is passed on unchanged', () => {
  const argument = fc
    .string({ unit: 'binary', minLength: 1 })
    .filter((arg) => !/cluster|%3d|^-c$/i.test(arg));
  fc.assert(
    fc.property(fc.array(argument), fc.nat(), (args, at) => {
      const mixed = args.toSpliced(at % (args.length + 1), 0, '-ccluster=main');
      assert.deepEqual(takeClusterOption(mixed), { virtualClusterName: 'main', rest: args });
    }),
    { numRuns: 30 },
  );
});

test('the database may carry the cluster, unless options do', () => {
  assert.deepEqual(
    [request({ database: 'cluster:a/b' }).virtualClusterName, request({ database: 'cluster:a/b' }).database],
    ['a', 'b'],
  );
  assert.equal(request({ database: 'cluster:a/b/c' }).database, 'b/c');
  assert.equal(request({ database: 'cluster:a' }).database, 'defaultdb');
  const literal = request({ database: 'cluster:a/b', options: '-ccluster=system' });
  assert.deepEqual([literal.virtualClusterName, literal.database], ['system', 'cluster:a/b']);
  assert.equal(request({}).database, 'defaultdb');
  assert.equal(request({}).parameters.get('database'), 'defaultdb');
  assert.equal(request({ options: '-ccluster=a' }).parameters.has('options'), false);
  assert.equal(request({ options: '-ccluster=a -c x=a\\ b' }).parameters.get('options'), '-c x=a\\ b');
});

test('protocol extensions are told to be unknown and not passed on', () => {
  const { negotiation, parameters, protocol } = readSessionRequest({
    protocol: PROTOCOL_3_2 + 1,
    parameters: new Map([
      ['user', 'u'],
      ['_pq_.x', '1'],
    ]),
  });
  assert.deepEqual(negotiation, { unknownParameters: ['_pq_.x'] });
  assert.equal(protocol, PROTOCOL_3_2);
  assert.deepEqual([...parameters.keys()], ['user', 'database']);
});

test('replication is read as Postgres reads it', () => {
  for (const value of ['true', 'on', 'yes', '1', 'database', 'DATABASE', 't']) {
    assert.equal(request({ replication: value }).isReplication, true, value);
  }
  for (const value of ['false', 'off', 'no', '0']) {
    assert.equal(request({ replication: value }).isReplication, false, value);
  }
  assert.throws(() => request({ replication: 'perhaps' }), { code: 'parameter_invalid' });
});
