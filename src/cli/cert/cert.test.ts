import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, rmSync, statSync, writeFileSync, chmodSync, copyFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { isAppError } from '../../base/index.ts';
import { certificatesOf, readNodeCertificates } from '../../keys/index.ts';
import { certCommand } from '../commands/cert.ts';

const HOUR_MS = 3_600_000;

describe('atoll cert', () => {
  let directory: string;
  const path = (...names: string[]) => join(directory, ...names);
  const cert = async (...argv: string[]): Promise<{ code: number; output: string }> => {
    const stdout = new PassThrough();
    const code = await certCommand.start({
      environment: { ATOLL_CERTS_DIR: path('certs'), ATOLL_CA_KEY: path('safe', 'ca.key') },
      stdin: new PassThrough(),
      stdout,
      stderr: new PassThrough(),
      argv,
    });
    return { code, output: stdout.read()?.toString() ?? '' };
  };
  const refuses = (argv: string[], message: RegExp) =>
    assert.rejects(cert(...argv), (error) => isAppError(error, 'usage') && message.test(error.message));

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'atoll-cert-'));
    await cert('create-ca');
    await cert('create-node', 'localhost', '127.0.0.1', 'db.example.com');
    await cert('create-client', 'alice', '--also-generate-pkcs8-key', '--lifetime=48h');
  });
  after(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  test('keys are for their owner alone, certificates for everybody', () => {
    for (const name of [
      'certs/node.key',
      'certs/client.alice.key',
      'certs/client.alice.key.pk8',
      'safe/ca.key',
    ])
      assert.equal(statSync(path(name)).mode & 0o777, 0o600, name);
    for (const name of ['ca.crt', 'node.crt', 'client.alice.crt'])
      assert.equal(statSync(path('certs', name)).mode & 0o777, 0o644, name);
  });

  test('the CA signed them, for what they are used for, for as long as was said', () => {
    const [ca, node, alice] = ['ca', 'node', 'client.alice'].map(
      (name) => new X509Certificate(readFileSync(path('certs', `${name}.crt`))),
    );
    assert.ok(ca && node && alice);
    for (const certificate of [node, alice]) {
      assert.ok(certificate.checkIssued(ca) && certificate.verify(ca.publicKey));
      assert.equal(certificate.ca, false);
    }
    assert.equal(ca.ca, true);
    assert.equal(node.checkHost('db.example.com'), 'db.example.com');
    assert.equal(node.checkIP('127.0.0.1'), '127.0.0.1');
    assert.equal(node.checkHost('elsewhere.example.com'), undefined);
    assert.match(node.subject, /^CN=node$/m);
    assert.match(alice.subject, /^CN=alice$/m);
    assert.deepEqual(alice.keyUsage, ['1.3.6.1.5.5.7.3.2']); // Clients alone: nobody can be a server by it.
    const hours = (certificate: X509Certificate) =>
      Math.round((Date.parse(certificate.validTo) - Date.parse(certificate.validFrom)) / HOUR_MS);
    assert.deepEqual([ca, node, alice].map(hours), [87840 + 24, 43920 + 24, 48 + 24]);
    assert.ok(alice.checkPrivateKey(createPrivateKey(readFileSync(path('certs/client.alice.key')))));
  });

  test('the list tells what there is, and what is wrong', async () => {
    const { code, output } = await cert('list');
    assert.equal(code, 0);
    assert.match(output, /^ {2}CA {5}\| ca\.crt .*\| num certs: 1/m);
    assert.match(
      output,
      /^ {2}Node {3}\| node\.crt .*\| node\.key .*\| addresses: localhost,127\.0\.0\.1,db\.example\.com/m,
    );
    assert.match(output, /^ {2}Client \| client\.alice\.crt .*\| user: alice/m);
    await cert('create-client', 'brief', '--lifetime=1s');
    await cert('create-client', 'keyless');
    rmSync(path('certs/client.keyless.key'));
    writeFileSync(path('certs/client.broken.crt'), 'nonsense');
    const later = await import('./list.ts').then(({ listCertificates }) =>
      listCertificates(path('certs'), { nowMs: Date.now() + HOUR_MS }),
    );
    const errorOf = (name: string) => later.find(({ certificateFile }) => certificateFile === name)?.error;
    assert.equal(errorOf('client.brief.crt'), 'expired');
    assert.equal(errorOf('client.keyless.crt'), 'no key');
    assert.equal(errorOf('client.broken.crt'), 'holds no certificate');
    assert.equal(errorOf('client.alice.crt'), '');
    assert.equal((await cert('list')).code, 1);
  });

  test('nothing is replaced unasked, and mistakes are told before anything is written', async () => {
    const key = readFileSync(path('certs/node.key'), 'utf8');
    await refuses(['create-node', 'localhost'], /node\.key exists/);
    await refuses(['create-ca'], /ca\.key exists/);
    await refuses(['create-client', '../evil'], /not a user's name/);
    await refuses(['create-client', ''], /not a user's name/);
    await refuses(['create-node'], /no host is named/);
    await refuses(['create-node', 'host:26257'], /not a host/);
    await refuses(['create-client', 'bob', '--lifetime=99999h'], /live longer than the CA/);
    await refuses(['create-client', 'bob', '--lifetime=soon'], /not a duration/);
    await refuses(['create-cleint', 'bob'], /unknown command/);
    assert.equal(readFileSync(path('certs/node.key'), 'utf8'), key);
    await cert('create-node', 'localhost', '--overwrite');
    assert.notEqual(readFileSync(path('certs/node.key'), 'utf8'), key);
  });

  test('a new CA stands before the old one, which stays trusted', async () => {
    const before = certificatesOf(readFileSync(path('certs/ca.crt'), 'utf8'));
    await cert('create-ca', '--ca-key', path('safe', 'next.key'));
    const now = certificatesOf(readFileSync(path('certs/ca.crt'), 'utf8'));
    assert.deepEqual(
      now.slice(1).map(({ fingerprint256 }) => fingerprint256),
      before.map(({ fingerprint256 }) => fingerprint256),
    );
    await refuses(['create-client', 'carol'], /is not the key of/); // The old key.
    await cert('create-client', 'carol', '--ca-key', path('safe', 'next.key'));
  });

  test('a node takes certificates that fit together, and no key that others may read', () => {
    const directory = path('certs');
    const read = () => readNodeCertificates(directory, { nowMs: Date.now() });
    assert.deepEqual(read().warnings, []);
    assert.match(
      readNodeCertificates(directory, { nowMs: Date.now() + 50_000 * HOUR_MS }).warnings.join(),
      /node\.crt has expired/,
    );
    chmodSync(path('certs/node.key'), 0o644);
    assert.throws(read, (error) => isAppError(error, 'usage') && /chmod 0600/.test(error.hint ?? ''));
    copyFileSync(path('certs/client.alice.key'), path('certs/node.key'));
    chmodSync(path('certs/node.key'), 0o600);
    assert.throws(read, /is not the key of node\.crt/);
    rmSync(path('certs/node.key'));
    assert.throws(
      read,
      (error) => isAppError(error, 'usage') && /atoll cert create-node/.test(error.hint ?? ''),
    );
  });
});
