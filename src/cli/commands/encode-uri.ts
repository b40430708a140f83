import { InputError } from '../../base/index.ts';
import { defineCommand } from '../command.ts';
import { formatConnectionUri, parsePlace, readPem } from '../connection-uri.ts';
import { optionalFlag, switchFlag, valueFlag } from '../flags/flag.ts';
import { readChoice } from '../flags/readers.ts';

const TLS_MODES = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
const readText = (text: string) => text;

const file = (name: string, help: string) =>
  optionalFlag({ name, inEnvironment: false, placeholder: 'FILE', help, parse: readText });

const FLAGS = {
  caCert: file('ca-cert', "Certificate of the CA that has signed the server's."),
  cert: file('cert', 'Certificate of the user, who then needs no password.'),
  key: file('key', 'Key of that certificate.'),
  inline: switchFlag({
    name: 'inline',
    inEnvironment: false,
    help: 'Writes what the files hold, for a node that does not have them; otherwise their paths, as given.',
  }),
  sslMode: optionalFlag({
    name: 'sslmode',
    inEnvironment: false,
    placeholder: 'MODE',
    defaultText: 'verify-full with --ca-cert, otherwise left out',
    help: 'disable, prefer, require, verify-ca or verify-full.',
    parse: (text) => readChoice(text, TLS_MODES),
  }),
  cluster: valueFlag({
    name: 'cluster',
    inEnvironment: false,
    placeholder: 'NAME',
    default: 'system',
    help: 'Virtual cluster to connect to. Replication wants system.',
    parse: readText,
  }),
  user: optionalFlag({
    name: 'user',
    short: 'u',
    inEnvironment: false,
    placeholder: 'NAME',
    help: 'User, where the server is given without.',
    parse: readText,
  }),
  database: optionalFlag({
    name: 'database',
    short: 'd',
    inEnvironment: false,
    placeholder: 'NAME',
    defaultText: 'defaultdb',
    help: 'Database, where the server is given without.',
    parse: readText,
  }),
};

export const encodeUriCommand = defineCommand({
  name: 'encode-uri',
  usage: '[USER[:PASSWORD]@]HOST[:PORT] [flags]',
  description: [
    'Prints the connection string by which another node, such as the standby of a replication, reaches this server. User and password are given as they are, and encoded; behind postgresql:// they are taken as encoded already. Without a password the one in PGPASSWORD is used, which no list of processes shows. The output holds the password, and with --inline the key.',
  ],
  examples: [
    "atoll encode-uri 'replicator:p@ss/word@db.example.com:26257' --ca-cert certs/ca.crt --inline",
    'PGPASSWORD=... atoll encode-uri replicator@10.0.0.1 --ca-cert certs/primary.crt',
  ],
  flags: FLAGS,
  positionalsMax: 1,
  async run(flags, { stdout, environment }, [text]) {
    if (text === undefined) {
      throw new InputError('usage', 'encode-uri needs a server', {
        hint: 'write USER:PASSWORD@HOST:PORT behind it',
      });
    }
    if ((flags.cert === undefined) !== (flags.key === undefined)) {
      throw new InputError('usage', '--cert and --key are of use only together');
    }
    const { inline, caCert } = flags;
    const content = (path: string | undefined, kind: 'certificate' | 'private key') =>
      path === undefined || !inline ? path : readPem(path, kind);
    const place = parsePlace(text);
    const isByCertificate = flags.cert !== undefined;
    const uri = formatConnectionUri({
      user: place.user ?? flags.user,
      password: place.password ?? (isByCertificate ? undefined : environment['PGPASSWORD']),
      address: place.address,
      database: place.database ?? flags.database,
      virtualCluster: flags.cluster,
      tlsMode: flags.sslMode ?? (caCert === undefined ? undefined : 'verify-full'),
      authority: content(caCert, 'certificate'),
      certificate: content(flags.cert, 'certificate'),
      key: content(flags.key, 'private key'),
      isInline: inline && (caCert !== undefined || isByCertificate),
    });
    stdout.write(`${uri}\n`);
    return 0;
  },
});
