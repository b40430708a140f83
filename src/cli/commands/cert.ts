import { join } from 'node:path';
import { InputError } from '../../base/index.ts';
import { defineCommand } from '../command.ts';
import { defineCommandGroup } from '../command-group.ts';
import { readAuthority, readKey, writeFiles, type NewFile } from '../cert/files.ts';
import { issueAuthority, issueClient, issueNode, type Issued } from '../cert/issue.ts';
import { formatCertificates, listCertificates } from '../cert/list.ts';
import { optionalFlag, switchFlag, valueFlag } from '../flags/flag.ts';
import { readDurationMs, readInteger, readPath } from '../flags/readers.ts';
import { existsSync, readFileSync } from 'node:fs';

/** Ten years, and five: as `cockroach cert`, which counts leap years generously. */
const AUTHORITY_LIFETIME = '87840h';
const LIFETIME = '43920h';
/** A role's name, as in Postgres. */
const USER_BYTES_MAX = 63;
const HOSTS_MAX = 100;

const certsDirFlag = valueFlag({
  name: 'certs-dir',
  placeholder: 'DIR',
  default: './certs',
  help: 'Folder of the certificates.',
  parse: readPath,
});

const AUTHORITY_FLAGS = {
  certsDir: certsDirFlag,
  caKey: optionalFlag({
    name: 'ca-key',
    placeholder: 'FILE',
    help: 'Key of the CA. Keep it in a safe place, not on the nodes: who has it can be anybody.',
    parse: readPath,
  }),
  keySize: valueFlag({
    name: 'key-size',
    placeholder: 'BITS',
    default: '2048',
    help: 'Length of the RSA key.',
    parse: (text) => readInteger(text, { min: 2048, max: 8192 }),
  }),
  overwrite: switchFlag({
    name: 'overwrite',
    inEnvironment: false,
    help: 'Replaces files that are there.',
  }),
};

const lifetimeFlag = (text: string) =>
  valueFlag({
    name: 'lifetime',
    placeholder: 'DURATION',
    default: text,
    help: 'How long the certificate is valid from now on, e.g. 8760h.',
    parse: readDurationMs,
  });

const createCaCommand = defineCommand({
  name: 'cert create-ca',
  usage: '--certs-dir DIR --ca-key FILE [flags]',
  description: [
    'Makes a certificate authority: ca.crt in the folder, which nodes and clients need, and its key, by which all others are signed. Where ca.crt exists, the new certificate is put before the old ones, which stay trusted: nodes and clients that have both can change over one by one.',
  ],
  examples: ['atoll cert create-ca --certs-dir certs --ca-key safe/ca.key'],
  flags: {
    ...AUTHORITY_FLAGS,
    lifetime: lifetimeFlag(AUTHORITY_LIFETIME),
    allowKeyReuse: switchFlag({
      name: 'allow-ca-key-reuse',
      inEnvironment: false,
      help: 'Makes a new certificate for the key that is there.',
    }),
  },
  positionalsMax: 0,
  async run(flags, context) {
    const keyPath = requireKeyPath(flags.caKey);
    const certificatePath = join(flags.certsDir, 'ca.crt');
    const isReused = existsSync(keyPath);
    if (isReused && !flags.allowKeyReuse) {
      throw new InputError('usage', `the CA's key ${keyPath} exists`, {
        hint: 'add --allow-ca-key-reuse to make another certificate for it, or name another file',
      });
    }
    const issued = await issueAuthority({
      nowMs: Date.now(),
      lifetimeMs: flags.lifetime,
      keyBits: flags.keySize,
      ...(isReused ? { key: readKey(keyPath) } : {}),
    });
    if (!isReused) writeFiles([secret(keyPath, issued)], { mayReplace: false });
    const former =
      !flags.overwrite && existsSync(certificatePath) ? readFileSync(certificatePath, 'utf8') : '';
    const content = issued.certificatePem + former;
    writeFiles([{ path: certificatePath, content, isSecret: false }], { mayReplace: true });
    context.stdout.write(`${certificatePath}\n${keyPath}\n`);
    return 0;
  },
});

const createNodeCommand = defineCommand({
  name: 'cert create-node',
  usage: 'HOST... --certs-dir DIR --ca-key FILE [flags]',
  description: [
    'Makes node.crt and node.key. Name every host name and address under which clients reach the node: they refuse a certificate for another. A node that runs takes new ones at SIGHUP.',
  ],
  examples: [
    'atoll cert create-node localhost 127.0.0.1 db.example.com --certs-dir certs --ca-key safe/ca.key',
  ],
  flags: { ...AUTHORITY_FLAGS, lifetime: lifetimeFlag(LIFETIME) },
  positionalsMax: HOSTS_MAX,
  async run(flags, context, positionals) {
    const hosts = positionals.map(readHost);
    if (hosts.length === 0) {
      throw new InputError('usage', 'no host is named', {
        hint: 'name every host name and address under which clients reach the node',
      });
    }
    const authority = authorityOf(flags);
    const issued = await issueNode({
      nowMs: Date.now(),
      lifetimeMs: flags.lifetime,
      keyBits: flags.keySize,
      authority,
      hosts,
    });
    const certificatePath = join(flags.certsDir, 'node.crt');
    const keyPath = join(flags.certsDir, 'node.key');
    writeFiles(
      [secret(keyPath, issued), { path: certificatePath, content: issued.certificatePem, isSecret: false }],
      { mayReplace: flags.overwrite },
    );
    context.stdout.write(`${certificatePath}\n${keyPath}\n`);
    return 0;
  },
});

const createClientCommand = defineCommand({
  name: 'cert create-client',
  usage: 'USER --certs-dir DIR --ca-key FILE [flags]',
  description: [
    'Makes client.USER.crt and client.USER.key, by which USER logs in without a password, in every virtual cluster that has a role of this name.',
  ],
  examples: ['atoll cert create-client root --certs-dir certs --ca-key safe/ca.key'],
  flags: {
    ...AUTHORITY_FLAGS,
    lifetime: lifetimeFlag(LIFETIME),
    pkcs8: switchFlag({
      name: 'also-generate-pkcs8-key',
      inEnvironment: false,
      help: 'Also writes client.USER.key.pk8, the key as Java programs want it.',
    }),
  },
  positionalsMax: 1,
  async run(flags, context, [user]) {
    if (user === undefined) throw new InputError('usage', 'no user is named');
    requireUser(user);
    const authority = authorityOf(flags);
    const issued = await issueClient({
      nowMs: Date.now(),
      lifetimeMs: flags.lifetime,
      keyBits: flags.keySize,
      authority,
      user,
    });
    const base = join(flags.certsDir, `client.${user}`);
    const files = [
      ...(flags.pkcs8
        ? [
            {
              path: `${base}.key.pk8`,
              content: issued.key.export({ format: 'der', type: 'pkcs8' }),
              isSecret: true,
            },
          ]
        : []),
      secret(`${base}.key`, issued),
      { path: `${base}.crt`, content: issued.certificatePem, isSecret: false },
    ];
    writeFiles(files, { mayReplace: flags.overwrite });
    context.stdout.write(files.map(({ path }) => `${path}\n`).join(''));
    return 0;
  },
});

const listCommand = defineCommand({
  name: 'cert list',
  usage: '[--certs-dir DIR]',
  description: ['Lists the certificates of a folder, and what is wrong with them.'],
  examples: ['atoll cert list --certs-dir certs'],
  flags: { certsDir: certsDirFlag },
  positionalsMax: 0,
  async run(flags, context) {
    const rows = listCertificates(flags.certsDir, { nowMs: Date.now() });
    context.stdout.write(`Certificate directory: ${flags.certsDir}\n${formatCertificates(rows)}`);
    return rows.some(({ error }) => error !== '') ? 1 : 0;
  },
});

export const certCommand = defineCommandGroup({
  name: 'cert',
  description:
    'Makes the certificates of a cluster: one CA, a certificate for each node, one for each user who logs in by it.',
  members: [createCaCommand, createNodeCommand, createClientCommand, listCommand],
});

function requireKeyPath(path: string | undefined): string {
  if (path !== undefined) return path;
  throw new InputError('usage', "the CA's key is not named", { hint: 'write --ca-key=FILE' });
}

function authorityOf(flags: { certsDir: string; caKey: string | undefined }) {
  return readAuthority({
    certificatePath: join(flags.certsDir, 'ca.crt'),
    keyPath: requireKeyPath(flags.caKey),
  });
}

function secret(path: string, { key }: Issued): NewFile {
  return { path, content: key.export({ format: 'pem', type: 'pkcs8' }), isSecret: true };
}

/** @throws InputError `usage` */
function readHost(text: string): string {
  if (/^(?:\*\.)?[\w-]+(?:\.[\w-]+)*\.?$/.test(text) || /^[0-9a-fA-F:.]+$/.test(text)) return text;
  throw new InputError('usage', `not a host: ${JSON.stringify(text)}`, {
    hint: 'write host names and addresses, without ports',
  });
}

/** The name becomes part of a file's. @throws InputError `usage` */
function requireUser(user: string): void {
  const isFit = user !== '' && Buffer.byteLength(user) <= USER_BYTES_MAX && !/[/\\#\p{Cc}]/u.test(user);
  if (isFit) return;
  throw new InputError('usage', `not a user's name here: ${JSON.stringify(user)}`, {
    hint: `at most ${USER_BYTES_MAX} bytes, no slashes, no number signs, no control characters`,
  });
}
