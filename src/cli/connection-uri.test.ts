import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { TestAuthority, writeCertificates } from '../../test/harness/certificates.ts';
import { scratchDirectory } from '../../test/harness/scratch.ts';
import { isAppError } from '../base/index.ts';
import { parseSourceUri } from '../replication/index.ts';
import { encodeUriCommand } from './commands/encode-uri.ts';
import { parsePlace } from './connection-uri.ts';

describe('atoll encode-uri', () => {
  let directory: string;
  let authority: TestAuthority;

  before(async () => {
    directory = await scratchDirectory('atoll-encode-');
    authority = await TestAuthority.make();
    await writeCertificates(directory, {
      'ca.crt': authority.certificate,
      repl: await authority.client('repl'),
    });
  });
  after(() => rm(directory, { recursive: true, force: true }));

  const file = (name: string) => join(directory, name);
  async function encodeWith(
    environment: Readonly<Record<string, string>>,
    ...argv: readonly string[]
  ): Promise<string> {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const code = await encodeUriCommand.start({
      argv,
      environment,
      stdin: Readable.from([]),
      stdout,
      stderr,
    });
    assert.equal(code, 0);
    return String(stdout.read()).replace(/\n$/, '');
  }
  const encode = (...argv: readonly string[]) => encodeWith({}, ...argv);

  it('prints what a standby is given', async () => {
    assert.equal(
      await encode('repl:secret@primary:26258'),
      'postgresql://repl:secret@primary:26258/defaultdb?options=-ccluster%3Dsystem',
    );
    assert.equal(
      await encode('repl:secret@primary', '--ca-cert', 'certs/ca.crt'),
      'postgresql://repl:secret@primary:26257/defaultdb?options=-ccluster%3Dsystem&sslmode=verify-full&sslrootcert=certs%2Fca.crt',
    );
    const inline = await encode('repl:secret@primary', '--ca-cert', file('ca.crt'), '--inline');
    assert.match(
      inline,
      /^postgresql:\/\/repl:secret@primary:26257\/defaultdb\?options=-ccluster%3Dsystem&sslinline=true&sslmode=verify-full&sslrootcert=-----BEGIN%20CERTIFICATE-----%0A[\w%]+-----END%20CERTIFICATE-----%0A$/,
    );
  });

  it('takes what is missing from flags and the environment', async () => {
    assert.equal(
      await encodeWith(
        { PGPASSWORD: 'a b' },
        '[::1]',
        '-u',
        'u',
        '-d',
        'd',
        '--cluster=main',
        '--sslmode=require',
      ),
      'postgresql://u:a%20b@[::1]:26257/d?options=-ccluster%3Dmain&sslmode=require',
    );
    assert.equal(
      await encode('postgres://u%40x:p%2Fq@host:1/data'),
      'postgresql://u%40x:p%2Fq@host:1/data?options=-ccluster%3Dsystem',
    );
    const byCertificate = [
      '--cert',
      file('repl.crt'),
      '--key',
      file('repl.key'),
      '--ca-cert',
      file('ca.crt'),
    ];
    const uri = await encodeWith({ PGPASSWORD: 'secret' }, 'repl@host', '--inline', ...byCertificate);
    const { password, tls } = parseSourceUri(uri);
    assert.deepEqual([password, tls.mode, tls.authority], [null, 'verify-full', authority.certificate]);
    assert.match(`${tls.certificate}${tls.key}`, /BEGIN CERTIFICATE[\s\S]*BEGIN PRIVATE KEY/);
    assert.deepEqual(parseSourceUri(await encode('repl@host', ...byCertificate)).tls, tls);
  });

  it('prints what replication reads, and a string of SQL can hold, whatever user and password are', async () => {
    const name = fc.string({ minLength: 1, unit: 'grapheme' });
    await fc.assert(
      fc.asyncProperty(name, name, async (user, password) => {
        fc.pre(!user.includes(':') && !user.startsWith('postgres') && !user.startsWith('-'));
        const uri = await encode(`${user}:${password}@host`);
        assert.match(uri, /^[\w:/@?&=%.~-]+$/);
        const address = parseSourceUri(uri);
        assert.deepEqual([address.user, address.password, address.host], [user, password, 'host']);
      }),
    );
  });

  it('refuses what it cannot read, and repeats no password', async () => {
    const refused: readonly (readonly string[])[] = [
      [],
      ['repl:s3cret@'],
      ['repl:s3cret@host:port'],
      ['repl:s3cret@host/a/b'],
      ['repl:s3cret@host?sslmode=disable'],
      ['repl:host/s3cret'],
      ['postgresql://repl:s3cret%@host'],
      ['repl:s3cret@host', 'more'],
      ['repl:s3cret@host', '--cert', 'x'],
      ['repl:s3cret@host', '--sslmode', 'maybe'],
      ['repl:s3cret@host', '--inline', '--ca-cert', file('none')],
      ['repl:s3cret@host', '--inline', '--ca-cert', file('repl.key')],
    ];
    for (const argv of refused) {
      await assert.rejects(encode(...argv), (error) => {
        assert.ok(isAppError(error, 'usage'), argv.join(' '));
        assert.doesNotMatch(`${error.message} ${error.hint}`, /s3cret/);
        return true;
      });
    }
  });

  it('ends a password at the last at sign', () => {
    assert.deepEqual(parsePlace('u:a@b:c/d@host'), {
      user: 'u',
      password: 'a@b:c/d',
      address: 'host:26257',
      database: undefined,
    });
  });
});
