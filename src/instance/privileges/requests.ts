/** What the daemon may ask its helper, and what comes back. No path, no program and no user travels: the helper computes them. */
import { z } from 'zod';
import { controlGroupsSpecSchema } from '../control-groups.ts';
import { DATA_DIRECTORY_NAME } from '../store-layout.ts';
import { NODE_FILES } from './contract.ts';

/** Folders of virtual clusters, also of those that are being made or deleted. */
const CLUSTER_NAME = /^(?:[1-9]\d{0,5}|\.(?:creating|removing)-[1-9]\d{0,5}-[0-9a-f]{16})$/;
const ENGINE_NAME = /^[A-Za-z0-9][A-Za-z0-9.+_-]{0,100}$/;
const LOG_NAME = /^(?:postgres-[1-9]\d{0,5}|scratch-[1-9]\d{0,5}-[0-9a-f]{16})\.log$/;
const SOCKETS_NAME = /^[1-9]\d{0,5}(?:p|s[0-9a-f]{8})?$/;
const PARAMETER_NAME = /^[a-z][a-z0-9_]{0,62}$/;
const PARAMETER_LENGTH_MAX = 4096;
export const RUN_FILE_LENGTH_MAX = 4096;

const placeSchema = z.strictObject({
  cluster: z.string().regex(CLUSTER_NAME),
  directory: z.string().regex(DATA_DIRECTORY_NAME),
});
/** A data directory, by the names of its folder and itself. */
export type Place = z.infer<typeof placeSchema>;

const runFileSchema = z.enum(['pid', 'listening_url']);
/** Files that tell other programs of the node. */
export type RunFile = z.infer<typeof runFileSchema>;

export const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGKILL'] as const;

const requestSchema = z.discriminatedUnion('verb', [
  z.strictObject({
    verb: z.literal('launch'),
    place: placeSchema,
    /** Of the store; null for the operator's own. */
    engine: z.string().regex(ENGINE_NAME).nullable(),
    log: z.string().regex(LOG_NAME),
    overrides: z.record(z.string().regex(PARAMETER_NAME), z.string().max(PARAMETER_LENGTH_MAX)),
    limits: z
      .strictObject({
        addressSpaceBytes: z.int().positive().nullable(),
        niceness: z.int().min(0).max(19),
        cpuWeight: z.int().min(1).max(10_000),
        memoryBytes: z.int().positive().nullable(),
      })
      .nullable(),
  }),
  z.strictObject({
    verb: z.literal('signal'),
    pid: z.int().min(2),
    startToken: z.string().max(100).nullable(),
    signal: z.enum(SIGNALS),
  }),
  z.strictObject({ verb: z.literal('processes'), place: placeSchema }),
  z.strictObject({ verb: z.literal('works_in'), place: placeSchema, pid: z.int().min(2) }),
  z.strictObject({ verb: z.literal('take'), place: placeSchema }),
  z.strictObject({
    verb: z.literal('remove_files'),
    place: placeSchema,
    names: z.array(z.enum(NODE_FILES)).max(NODE_FILES.length),
  }),
  z.strictObject({
    verb: z.literal('sign'),
    place: placeSchema,
    name: z.enum(['recovery.signal', 'standby.signal']),
  }),
  z.strictObject({ verb: z.literal('open_configuration'), cluster: z.string().regex(CLUSTER_NAME) }),
  z.strictObject({ verb: z.literal('open_sockets'), name: z.string().regex(SOCKETS_NAME) }),
  z.strictObject({ verb: z.literal('read_certificates') }),
  z.strictObject({
    verb: z.literal('write_run_file'),
    file: runFileSchema,
    content: z.string().max(RUN_FILE_LENGTH_MAX),
  }),
  z.strictObject({ verb: z.literal('remove_pid_file') }),
]);
export type Request = z.infer<typeof requestSchema>;
export type RequestOf<Verb extends Request['verb']> = Extract<Request, { verb: Verb }>;

export const toHelperSchema = z.strictObject({ id: z.int(), request: requestSchema });

/** What the helper tells. Values are checked by who asked. */
export const fromHelperSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('ready') }),
  z.strictObject({ kind: z.literal('done'), id: z.int(), value: z.json().optional() }),
  z.strictObject({
    kind: z.literal('failed'),
    id: z.int(),
    message: z.string(),
    code: z.string().nullable(),
  }),
  /** A server that the helper has launched. */
  z.strictObject({
    kind: z.literal('ended'),
    pid: z.int(),
    how: z.string(),
  }),
]);
export type FromHelper = z.infer<typeof fromHelperSchema>;

/** What the helper is told once, by the daemon while that is still root. */
export const helperSpecSchema = z.strictObject({
  /** Real path of the store. */
  root: z.string(),
  daemon: z.strictObject({ uid: z.int().positive(), gid: z.int().positive() }),
  ownEngine: z.string().nullable(),
  certificates: z.string().nullable(),
  controlGroups: controlGroupsSpecSchema.nullable(),
  runFiles: z.strictObject({ pid: z.string().nullable(), listening_url: z.string().nullable() }),
});
export type HelperSpec = z.infer<typeof helperSpecSchema>;
