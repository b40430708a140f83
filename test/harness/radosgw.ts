import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { freePort, type StorageServer } from './azurite.ts';
import { runProgram, startProgram } from './programs.ts';
import { scratchDirectory } from './scratch.ts';
import { waitFor } from './wait.ts';

const KEYS = { accessKeyId: 'atollkey', secretAccessKey: 'atoll+secret/with&signs' };
const MEMORY_STORE_BYTES = 2 * 1024 ** 3;

export interface S3Server extends StorageServer {
  readonly keys: typeof KEYS;
  readonly bucket: string;
  /** Runs `radosgw-admin`; returns its JSON answer. */
  admin(...args: string[]): Promise<unknown>;
  client(): S3Client;
}

/**
 * A real S3 server: Debian's Ceph, as one monitor, one object store in memory and its gateway. It knows conditional writes,
 * multipart uploads, object lock, quotas and assumed roles.
 */
export async function startRadosGateway(): Promise<S3Server> {
  await using started = new AsyncDisposableStack();
  const directory = await scratchDirectory('atoll-ceph-');
  started.defer(() => rm(directory, { recursive: true, force: true }));
  const ports = { monitor: await freePort(), gateway: await freePort() };
  const fsid = randomUUID();
  const config = join(directory, 'ceph.conf');
  await writeFile(config, configuration({ directory, fsid, ports }));
  const ceph = (program: string, ...args: string[]) => succeed(program, ['-c', config, ...args]);
  await makeKeys(directory);
  for (const folder of ['mon', 'osd', 'gateway', 'run']) await mkdir(join(directory, folder));

  const map = join(directory, 'monmap');
  await succeed('monmaptool', [
    '--create',
    '--fsid',
    fsid,
    '--addv',
    'a',
    `[v2:127.0.0.1:${ports.monitor}]`,
    map,
  ]);
  await ceph('ceph-mon', '--mkfs', '-i', 'a', '--monmap', map, '--keyring', join(directory, 'keyring'));
  started.use(startProgram('ceph-mon', ['-c', config, '-i', 'a', '-f']));
  const osd = randomUUID();
  await ceph('ceph', 'osd', 'new', osd);
  await ceph('ceph', 'auth', 'add', 'osd.0', '-i', join(directory, 'osd.keyring'));
  await ceph('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', osd);
  await ceph('ceph', 'osd', 'crush', 'add', 'osd.0', '1.0', 'root=default', 'host=here');
  started.use(startProgram('ceph-osd', ['-c', config, '-i', '0', '-f']));
  const admin = async (...args: string[]) => {
    const text = await ceph('radosgw-admin', ...args);
    return text === '' ? null : (JSON.parse(text) as unknown);
  };
  const keys = [`--access-key=${KEYS.accessKeyId}`, `--secret-key=${KEYS.secretAccessKey}`];
  await admin('user', 'create', '--uid=atoll', '--display-name=atoll', '--caps=roles=*', ...keys);
  const frontend = `beast endpoint=127.0.0.1:${ports.gateway}`;
  const gateway = started.use(
    startProgram('radosgw', [
      '-c',
      config,
      '-n',
      'client.admin',
      '--no-mon-config',
      '-f',
      '--rgw-frontends',
      frontend,
    ]),
  );
  const endpoint = `http://127.0.0.1:${ports.gateway}`;
  const client = () =>
    new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: KEYS, maxAttempts: 1 });
  await waitFor('the S3 server', async () => {
    gateway.requireAlive();
    await client().send(new CreateBucketCommand({ Bucket: 'bucket' }));
    return true;
  });
  const running = started.move();
  let folders = 0;
  return {
    endpoint,
    keys: KEYS,
    bucket: 'bucket',
    admin,
    client,
    newUri: () => `s3://bucket/folder-${folders++}?${s3Parameters(endpoint)}`,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** Parameters of a URI that leads to the server. */
export function s3Parameters(endpoint: string, more: Readonly<Record<string, string>> = {}): string {
  return new URLSearchParams({
    AWS_ACCESS_KEY_ID: KEYS.accessKeyId,
    AWS_SECRET_ACCESS_KEY: KEYS.secretAccessKey,
    AWS_ENDPOINT: endpoint,
    AWS_USE_PATH_STYLE: 'true',
    ...more,
  }).toString();
}

async function succeed(program: string, args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await runProgram(program, args);
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}: ${stderr}`);
  return stdout;
}

async function makeKeys(directory: string): Promise<void> {
  const make = async (file: string, name: string, capabilities: readonly string[]) => {
    const path = join(directory, file);
    const caps = capabilities.flatMap((service) => ['--cap', service, 'allow *']);
    await succeed('ceph-authtool', ['--create-keyring', '--gen-key', '-n', name, ...caps, path]);
    return readFile(path, 'utf8');
  };
  const all = [
    await make('mon.keyring', 'mon.', ['mon']),
    await make('admin.keyring', 'client.admin', ['mon', 'osd', 'mgr']),
    await make('osd.keyring', 'osd.0', ['mon', 'osd']),
  ];
  await writeFile(join(directory, 'keyring'), all.join('\n'));
}

function configuration(options: {
  directory: string;
  fsid: string;
  ports: { readonly monitor: number; readonly gateway: number };
}): string {
  const { directory, fsid, ports } = options;
  return `
[global]
fsid = ${fsid}
mon host = v2:127.0.0.1:${ports.monitor}
keyring = ${directory}/keyring
mon data = ${directory}/mon
osd data = ${directory}/osd
run dir = ${directory}/run
admin socket =
log file = ${directory}/$name.log
pid file =
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd objectstore = memstore
memstore device bytes = ${MEMORY_STORE_BYTES}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd crush chooseleaf type = 0
osd memory target = 268435456
mon allow pool size one = true
mon data avail warn = 1
mon data avail crit = 1
[client.admin]
rgw data = ${directory}/gateway
rgw thread pool size = 32
rgw enable usage log = false
rgw run sync thread = false
rgw sts key = abcdefghijklmnop
rgw s3 auth use sts = true
rgw crypt require ssl = false
`;
}
