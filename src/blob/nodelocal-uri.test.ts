import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ErrorCode, isAppError } from '../base/index.ts';
import { resolveNodelocalUri } from './nodelocal-uri.ts';

const root = await mkdtemp(join(tmpdir(), 'atoll-uri-'));
const externalDirectory = join(root, 'extern');
await mkdir(join(externalDirectory, 'real'), { recursive: true });
await mkdir(join(root, 'elsewhere'));
await symlink(join(root, 'elsewhere'), join(externalDirectory, 'out'));
await symlink(join(externalDirectory, 'real'), join(externalDirectory, 'in'));
after(() => rm(root, { recursive: true, force: true }));

const resolve = (uri: string) => resolveNodelocalUri({ uri, externalDirectory, nodeId: 1 });

test('names folders below the external directory', async () => {
  const table = {
    'nodelocal://1/backups': 'backups',
    'nodelocal://self/backups/app/': 'backups/app',
    'NODELOCAL://1/a%20b/%C3%BC': 'a b/ü',
    'nodelocal://1/a?COCKROACH_LOCALITY=default': 'a',
    'nodelocal://1': '',
    'nodelocal://1/': '',
    'nodelocal://1/in/x': 'in/x',
  };
  for (const [uri, path] of Object.entries(table)) {
    assert.equal((await resolve(uri)).directory, join(externalDirectory, path), uri);
  }
  assert.equal((await resolve('nodelocal://self/a%20b/c/')).displayUri, 'nodelocal://self/a%20b/c');
});

test('refuses everything else, saying what is possible', async () => {
  const table: Record<string, readonly [ErrorCode, RegExp]> = {
    'nodelocal://2/x': ['parameter_invalid', /node 2 is not reachable/],
    'nodelocal://01/x': ['parameter_invalid', /node id/],
    'nodelocal:///x': ['parameter_invalid', /node id/],
    'nodelocal://1@1/x': ['parameter_invalid', /node id/],
    'nodelocal://1/../x': ['parameter_invalid', /relative/],
    'nodelocal://1/a/%2e%2e/x': ['parameter_invalid', /relative/],
    'nodelocal://1/a/%2e%2e%2fx': ['parameter_invalid', /slash|backslash/],
    'nodelocal://1//etc': ['parameter_invalid', /empty/],
    'nodelocal://1/a%00': ['parameter_invalid', /control/],
    'nodelocal://1/%zz': ['parameter_invalid', /escape/],
    'nodelocal://1/a#b': ['parameter_invalid', /fragment/],
    'nodelocal://1/a?AUTH=implicit': ['parameter_invalid', /unknown nodelocal query parameters: AUTH/],
    'nodelocal://1/out/x': ['parameter_invalid', /symbolic link/],
    'nodelocal://1/out': ['parameter_invalid', /symbolic link/],
    '/tmp/x': ['parameter_invalid', /not a URI/],
    'ftp://host/x': ['parameter_invalid', /unknown storage scheme/],
    'https://host/x?token=secret': ['feature_not_supported', /https/],
    'userfile:///x': ['feature_not_supported', /userfile/],
    'external://x': ['feature_not_supported', /external/],
  };
  for (const [uri, [code, message]] of Object.entries(table)) {
    await assert.rejects(resolve(uri), (error) => {
      assert.ok(isAppError(error, code), `${uri}: ${String(error)}`);
      assert.match(error.message, message);
      assert.doesNotMatch(`${error.message}${error.hint}`, /secret/);
      return true;
    });
  }
});
