import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import {
  AwsKmsServer,
  AzureKmsServer,
  GcpKmsServer,
  type KmsServer,
} from '../../test/harness/kms-servers.ts';
import { AppError, type Clock, isAppError } from '../base/index.ts';
import { systemClock } from '../daemon/clock.ts';
import { openAzureKms } from './azure-kms.ts';
import { openGcpKms } from './gcp-kms.ts';
import { type KmsKey, openKmsKey } from './kms-key.ts';
import {
  isKmsUri,
  kmsDisplayUri,
  kmsKeyId,
  parseKmsUri,
  usesImplicitKmsRights,
  usesNodeKmsCredentials,
} from './kms-uri.ts';

const { signal } = new AbortController();
const secret = new Uint8Array(32).map((_, index) => index * 7);
/** Does not wait between attempts. */
const clock: Clock = Object.assign(systemClock(), { sleep: async () => undefined });

it('finds no rights of the node, and tells so without the words of a library', async () => {
  const location = parseKmsUri('gcp-kms:///projects/p/locations/l/keyRings/r/cryptoKeys/k?AUTH=implicit');
  let opens = 0;
  const open = async () => {
    opens += 1;
    if (opens < 3) throw new Error('Could not load the default credentials: secret-path');
    return { wrap: async (given: Uint8Array) => given, unwrap: async (given: Uint8Array) => given };
  };
  const key = openKmsKey(location, { clock, open });
  assert.equal(await key.wrap(secret, { signal }), secret);
  assert.equal(opens, 3);
  const never = openKmsKey(location, { clock, open: () => Promise.reject(new Error('secret-path')) });
  await assert.rejects(never.wrap(secret, { signal }), (error: unknown) => {
    assert.ok(isAppError(error, 'kms_unavailable'));
    assert.doesNotMatch(
      `${error.message} ${error.detail} ${error.hint} ${String(error.cause)}`,
      /secret-path/,
    );
    return true;
  });
});

/** What every service promises. */
function describeService(
  name: string,
  open: () => Promise<{
    key: KmsKey;
    server: Pick<KmsServer, 'failures' | 'requests' | 'hold'>;
    other: KmsKey;
  }>,
) {
  describe(name, () => {
    let opened: Awaited<ReturnType<typeof open>>;
    before(async () => {
      opened = await open();
    });

    it('unwraps what it has wrapped, and nothing else', async () => {
      const { key, other } = opened;
      const wrapped = await key.wrap(secret, { signal });
      assert.ok(!Buffer.from(wrapped).includes(Buffer.from(secret)));
      assert.deepEqual(Buffer.from(await key.unwrap(wrapped, { signal })), Buffer.from(secret));
      const changed = Uint8Array.from(wrapped);
      changed[20] = (changed[20] ?? 0) ^ 1;
      await assert.rejects(key.unwrap(changed, { signal }), refused);
      await assert.rejects(other.unwrap(wrapped, { signal }), refused);
      assert.notEqual(key.id, other.id);
    });

    it('is asked again when it does not answer, and not when it refuses', async () => {
      const { key, server } = opened;
      server.failures = [503, 500];
      assert.ok((await key.wrap(secret, { signal })).length > 0);
      server.failures = [403];
      const before = server.requests;
      await assert.rejects(key.wrap(secret, { signal }), refused);
      assert.equal(server.requests, before + 1);
      server.failures = [500, 500, 500, 500];
      await assert.rejects(key.wrap(secret, { signal }), (error) => isAppError(error, 'kms_unavailable'));
      assert.deepEqual(server.failures, []);
    });

    it('is left alone when the work is cancelled, before or while it is asked', async () => {
      const { key, server } = opened;
      const isCancelled = (error: unknown) => isAppError(error, 'cancelled');
      await assert.rejects(key.wrap(secret, { signal: AbortSignal.abort() }), isCancelled);
      const cancelling = new AbortController();
      server.hold = () => cancelling.abort();
      await assert.rejects(key.unwrap(secret, { signal: cancelling.signal }), isCancelled);
      server.hold = undefined;
    });
  });
}

/** Says what is wrong, and repeats no secret. */
function refused(error: unknown): boolean {
  if (!isAppError(error, 'kms_refused')) return false;
  const text = `${error.message} ${error.detail} ${error.hint} ${error.stack}`;
  return error.cause === undefined && !/AKIATEST|awsSecret|token-of/.test(text);
}

function googleKey(server: GcpKmsServer, name: string): KmsKey {
  const endpoint = encodeURIComponent(server.endpoint);
  const location = parseKmsUri(`gcp-kms:///${name}?AUTH=implicit&GS_ENDPOINT=${endpoint}`);
  return openKmsKey(location, {
    clock,
    async open(_, options) {
      if (location.kind !== 'gcp') throw new Error('not of Google');
      return openGcpKms(location, { ...options, authClient: server.authClient });
    },
  });
}

describe('keys at services', () => {
  const held = new AsyncDisposableStack();
  after(() => held.disposeAsync());

  describeService('AWS KMS', async () => {
    const server = held.use(await AwsKmsServer.start('alias/one', 'alias/two'));
    const key = (name: string) => openKmsKey(parseKmsUri(server.uri(encodeURIComponent(name))), { clock });
    return { key: key('alias/one'), other: key('alias/two'), server };
  });

  describeService('Google Cloud KMS', async () => {
    const names = ['one', 'two'].map((name) => `projects/p/locations/l/keyRings/r/cryptoKeys/${name}`);
    const server = held.use(await GcpKmsServer.start(...names));
    const keys = names.map((name) => googleKey(server, name));
    const [key, other] = keys;
    if (key === undefined || other === undefined) throw new Error('two keys');
    return { key, other, server };
  });

  describeService('Azure Key Vault', async () => {
    const server = held.use(await AzureKmsServer.start());
    const another = held.use(await AzureKmsServer.start());
    const keyOf = (of: AzureKmsServer, version: string) => {
      const endpoint = encodeURIComponent(of.endpoint);
      const location = parseKmsUri(
        `azure-kms:///${of.key}/${version}?AZURE_VAULT_NAME=${of === server ? 'one' : 'two'}&AUTH=implicit&AZURE_ENDPOINT=${endpoint}`,
      );
      return openKmsKey(location, {
        clock,
        async open(_, options) {
          if (location.kind !== 'azure') throw new Error('not of Azure');
          const tlsOptions = { ca: of.authority };
          return openAzureKms(location, { ...options, credential: of.credential, tlsOptions });
        },
      });
    };
    return { key: keyOf(server, server.version), other: keyOf(another, another.version), server };
  });

  it('are asked again for what was damaged on its way', async () => {
    const name = 'projects/p/locations/l/keyRings/r/cryptoKeys/k';
    const server = held.use(await GcpKmsServer.start(name));
    const key = googleKey(server, name);
    server.damagesNext = true;
    const wrapped = await key.wrap(secret, { signal });
    server.damagesNext = true;
    assert.deepEqual(Buffer.from(await key.unwrap(wrapped, { signal })), Buffer.from(secret));
    assert.equal(server.requests, 4);
  });

  it('refuse a wrong secret, and who is nobody', async () => {
    const server = held.use(await AwsKmsServer.start('k'));
    const wrong = openKmsKey(parseKmsUri(server.uri('k', { AWS_SECRET_ACCESS_KEY: 'another' })), { clock });
    await assert.rejects(wrong.wrap(secret, { signal }), refused);
    const gone = openKmsKey(parseKmsUri(server.uri('missing')), { clock });
    await assert.rejects(gone.wrap(secret, { signal }), refused);
  });

  it('are not available when nobody listens', async () => {
    const server = await AwsKmsServer.start('k');
    const key = openKmsKey(parseKmsUri(server.uri('k')), { clock });
    await server[Symbol.asyncDispose]();
    await assert.rejects(key.wrap(secret, { signal }), (error) => isAppError(error, 'kms_unavailable'));
  });
});

describe('the URI of a key', () => {
  const ARN = 'arn:aws:kms:us-east-1:123456789012:key/7a1d';
  const AWS = 'AUTH=specified&REGION=us-east-1&AWS_ACCESS_KEY_ID=a&AWS_SECRET_ACCESS_KEY=b';
  const GCP = 'projects/P/locations/L/keyRings/R/cryptoKeys/K';
  const CREDENTIALS = Buffer.from(
    JSON.stringify({ type: 'service_account', client_email: 'a@b', private_key: 'c' }),
  ).toString('base64');
  const AZURE = 'AZURE_TENANT_ID=t&AZURE_CLIENT_ID=c&AZURE_CLIENT_SECRET=s&AZURE_VAULT_NAME=v';
  const ACCEPTED: Readonly<Record<string, string>> = {
    [`aws:///${ARN}?${AWS}`]: `aws-kms:///${ARN}?REGION=us-east-1`,
    [`AWS-KMS:///alias%2Fa?AUTH=implicit&REGION=eu-west-1`]: 'aws-kms:///alias/a?REGION=eu-west-1',
    [`aws-kms:///7a1d?${AWS}&AWS_ENDPOINT=kms.example.com&ASSUME_ROLE=arn%3Aa%2Carn%3Ab`]:
      'aws-kms:///7a1d?REGION=us-east-1',
    [`gs:///${GCP}?AUTH=implicit`]: `gcp-kms:///${GCP}`,
    [`gcp-kms:///${GCP}?AUTH=specified&CREDENTIALS=${encodeURIComponent(CREDENTIALS)}&ASSUME_ROLE=x@y.z`]: `gcp-kms:///${GCP}`,
    [`azure-kms:///k/12ab?${AZURE}`]: 'azure-kms:///k/12ab?AZURE_VAULT_NAME=v',
    'azure-kms:///k/12ab?AZURE_VAULT_NAME=v&AUTH=implicit&AZURE_ENVIRONMENT=AZUREUSGOVERNMENTCLOUD':
      'azure-kms:///k/12ab?AZURE_VAULT_NAME=v',
  };
  for (const [uri, expected] of Object.entries(ACCEPTED)) {
    it(`is taken: ${uri}`, () => {
      assert.ok(isKmsUri(uri));
      assert.equal(kmsDisplayUri(parseKmsUri(uri)), expected);
    });
  }

  const REFUSED: readonly string[] = [
    '',
    'aws-kms://k?REGION=x',
    `aws-kms:///k?AUTH=implicit`,
    `aws-kms:///?${AWS}`,
    `aws-kms:///k?${AWS}&region=x`,
    `aws-kms:///k?REGION=us-east-1`,
    `aws-kms:///k?${AWS}#f`,
    `aws-kms:///%?${AWS}`,
    `gcp-kms:///projects/P?AUTH=implicit`,
    `gcp-kms:///${GCP}`,
    `gcp-kms:///${GCP}?CREDENTIALS=abc`,
    `azure-kms:///k?${AZURE}`,
    'azure-kms:///k/1?AZURE_VAULT_NAME=v',
    'azure-kms:///k/1?AUTH=implicit',
    'azure-kms:///k/1?AUTH=implicit&AZURE_VAULT_NAME=v.example.com',
    'azure-kms:///k/1?AUTH=maybe&AZURE_VAULT_NAME=v',
    's3://bucket/x?AUTH=implicit',
  ];
  for (const uri of REFUSED) {
    it(`is refused: ${uri}`, () => {
      assert.throws(
        () => parseKmsUri(uri),
        (error) => isAppError(error, 'parameter_invalid'),
      );
    });
  }

  it('is told from storage', () => {
    assert.ok(!isKmsUri('gs://bucket/x'));
    assert.ok(!isKmsUri('s3://bucket'));
    assert.ok(!isKmsUri('azure-blob://c/x'));
    assert.ok(isKmsUri('gs:///projects/p'));
  });

  it('is either read or refused without a word of its secrets', () => {
    const hidden = 'Xq7!geheim+Z';
    const schemes = fc.constantFrom('aws-kms', 'gcp-kms', 'azure-kms', 'gs', 'aws');
    const parameter = fc.constantFrom(
      'AUTH',
      'REGION',
      'CREDENTIALS',
      'AWS_SECRET_ACCESS_KEY',
      'AZURE_VAULT_NAME',
      'x',
      '',
    );
    fc.assert(
      fc.property(schemes, parameter, fc.boolean(), (scheme, name, isEncoded) => {
        const value = isEncoded ? encodeURIComponent(hidden) : hidden;
        try {
          parseKmsUri(`${scheme}:///a/b?${name}=${value}&${value}`);
        } catch (error) {
          assert.ok(error instanceof AppError);
          assert.ok(!`${error.message} ${error.hint} ${error.detail}`.includes('geheim'));
        }
      }),
    );
  });

  it('says whose rights are used', () => {
    const says = (uri: string) => [
      usesImplicitKmsRights(parseKmsUri(uri)),
      usesNodeKmsCredentials(parseKmsUri(uri)),
    ];
    assert.deepEqual(says(`aws-kms:///k?${AWS}`), [false, false]);
    assert.deepEqual(says(`aws-kms:///k?${AWS}&AWS_ENDPOINT=h`), [true, false]);
    assert.deepEqual(says('aws-kms:///k?AUTH=implicit&REGION=r'), [true, true]);
    assert.deepEqual(says(`gcp-kms:///${GCP}?AUTH=implicit`), [true, true]);
    assert.deepEqual(says(`azure-kms:///k/1?${AZURE}`), [false, false]);
    assert.deepEqual(says('azure-kms:///k/1?AZURE_VAULT_NAME=v&AUTH=implicit'), [true, true]);
  });

  it('names the same key whatever the credentials', () => {
    const id = (uri: string) => kmsKeyId(parseKmsUri(uri));
    assert.equal(id(`aws:///k?${AWS}`), id('aws-kms:///k?AUTH=implicit&REGION=us-east-1'));
    assert.notEqual(id(`aws:///k?${AWS}`), id('aws-kms:///k?AUTH=implicit&REGION=us-east-2'));
    assert.match(id(`aws:///k?${AWS}`), /^[0-9a-f]{64}$/);
  });
});
