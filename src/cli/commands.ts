import type { CommandEntry } from './program.ts';

/** A command's code is loaded when it is asked for: a shell need not wait for the server. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'start-single-node',
    summary: 'start a node that initialises itself',
    load: async () => (await import('./commands/start.ts')).startSingleNodeCommand,
  },
  {
    name: 'start',
    summary: 'start a node; on a new store it waits for "atoll init"',
    load: async () => (await import('./commands/start.ts')).startCommand,
  },
  {
    name: 'init',
    summary: 'initialise a node that was started with "atoll start"',
    load: async () => (await import('./commands/init.ts')).initCommand,
  },
  {
    name: 'cert',
    summary: 'make the certificates of nodes and users',
    load: async () => (await import('./commands/cert.ts')).certCommand,
  },
  {
    name: 'sql',
    summary: 'open a SQL shell, or run statements',
    load: async () => (await import('./commands/sql.ts')).sqlCommand,
  },
  {
    name: 'encode-uri',
    summary: 'print a connection string, encoded, for another node',
    load: async () => (await import('./commands/encode-uri.ts')).encodeUriCommand,
  },
  {
    name: 'userfile',
    summary: 'keep files in a virtual cluster: upload, list, get, delete',
    load: async () => (await import('./commands/userfile.ts')).userfileCommand,
  },
  {
    name: 'nodelocal',
    summary: 'upload a file into the external directory of a node',
    load: async () => (await import('./commands/nodelocal.ts')).nodelocalCommand,
  },
  {
    name: 'cluster-key',
    summary: 'keep and carry the keys that backups are sealed with',
    load: async () => (await import('./commands/cluster-key.ts')).clusterKeyCommand,
  },
  {
    name: 'restore',
    summary: 'restore a backup into a plain data directory, without a cluster',
    load: async () => (await import('./commands/restore.ts')).restoreCommand,
  },
  {
    name: 'debug',
    summary: 'write what support needs into a zip file',
    load: async () => (await import('./commands/debug.ts')).debugCommand,
  },
  {
    name: 'demo',
    summary: 'see it work: backup, restore, failover, failback',
    load: async () => (await import('./commands/demo.ts')).demoCommand,
  },
  {
    name: 'version',
    summary: 'print the version of Atoll and of its parts',
    load: async () => (await import('./commands/version.ts')).versionCommand,
  },
];
