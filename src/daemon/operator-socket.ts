import { chmod, mkdir, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import Fastify, { type FastifyInstance } from 'fastify';
import { z } from 'zod';
import { AppError, ERRORS, InputError, toError, type ErrorCode } from '../base/index.ts';
import { nodeReportSchema, type NodeReport } from './node-report.ts';

/** What `atoll init` may make of a store that waits for it. */
export const INITIALIZATIONS = ['virtualized', 'virtualized_empty', 'plain'] as const;
export type Initialization = (typeof INITIALIZATIONS)[number];

/** What the operator may ask of a running node. */
export interface OperatorService {
  report(): NodeReport;
  /** All figures, in the text form of Prometheus. */
  figures(): Promise<string>;
  /** @throws AppError `object_state` when the store is initialised already */
  initialize(initialization: Initialization): Promise<void>;
}

const BODY_BYTES_MAX = 4096;
/** Initialising makes two instances; on a slow disk that takes a while. */
const ANSWER_TIMEOUT_MS = 300_000;
const initRequestSchema = z.object({ initialization: z.enum(INITIALIZATIONS) });
const errorSchema = z.object({
  error: z.object({ code: z.string(), message: z.string(), hint: z.string().optional() }),
});

/** Path of the socket in a store. Its folder admits only the user the daemon runs as: who gets in may do everything. */
export function operatorSocketPath(store: string): string {
  return join(store, 'run', 'node', 'operator');
}

/** The operator's way to a node that may not serve SQL yet: HTTP over a Unix socket in the store. */
export class OperatorSocket {
  readonly #app: FastifyInstance;

  private constructor(app: FastifyInstance) {
    this.#app = app;
  }

  /** The caller holds the store's lock, so a socket that lies there is a dead one and is replaced. */
  static async open(options: { store: string; service: OperatorService }): Promise<OperatorSocket> {
    const path = operatorSocketPath(options.store);
    const directory = join(path, '..');
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await chmod(directory, 0o700);
    await rm(path, { force: true });
    const app = build(options.service);
    await app.listen({ path });
    return new OperatorSocket(app);
  }

  async close(): Promise<void> {
    await this.#app.close();
  }
}

function build(service: OperatorService): FastifyInstance {
  const app = Fastify({ logger: false, bodyLimit: BODY_BYTES_MAX, forceCloseConnections: true });
  app.setErrorHandler(async (error, _request, reply) => {
    const told = toError(error);
    const code: ErrorCode = told instanceof AppError ? told.code : 'internal';
    const hint = told instanceof AppError ? told.hint : undefined;
    await reply.status(ERRORS[code].http).send({ error: { code, message: told.message, hint } });
  });
  app.get('/report', async () => service.report());
  app.get('/figures', async (_request, reply) => reply.type('text/plain').send(await service.figures()));
  app.post('/initialize', async (request) => {
    const { initialization } = initRequestSchema.parse(request.body);
    await service.initialize(initialization);
    return service.report();
  });
  return app;
}

/** Asks a running node to initialise its store. @throws InputError `service_unavailable`, or the node's own error */
export async function askToInitialize(options: {
  store: string;
  initialization: Initialization;
}): Promise<NodeReport> {
  return await ask(options.store, {
    method: 'POST',
    path: '/initialize',
    body: { initialization: options.initialization },
  });
}

/** Asks a running node what it is. */
export async function askForReport(store: string): Promise<NodeReport> {
  return await ask(store, { method: 'GET', path: '/report', body: undefined });
}

async function ask(
  store: string,
  call: { method: string; path: string; body: object | undefined },
): Promise<NodeReport> {
  const { status, text } = await exchange(store, call);
  if (status !== 200) throw errorIn(text);
  return nodeReportSchema.parse(JSON.parse(text));
}

/** Asks a running node for its figures. */
export async function askForFigures(store: string): Promise<string> {
  const { status, text } = await exchange(store, { method: 'GET', path: '/figures', body: undefined });
  if (status !== 200) throw errorIn(text);
  return text;
}

function errorIn(text: string): AppError {
  const { code, message, hint } = errorSchema.parse(JSON.parse(text)).error;
  const known = code in ERRORS ? (code as ErrorCode) : 'internal';
  return new AppError(known, message, hint === undefined ? {} : { hint });
}

async function exchange(
  store: string,
  call: { method: string; path: string; body: object | undefined },
): Promise<{ status: number; text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const sent = request(
    {
      socketPath: operatorSocketPath(store),
      method: call.method,
      path: call.path,
      headers: call.body === undefined ? {} : { 'content-type': 'application/json' },
      timeout: ANSWER_TIMEOUT_MS,
    },
    (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', reject);
    },
  );
  sent.on('timeout', () => sent.destroy(new Error('the node does not answer')));
  sent.on('error', (error) => {
    reject(
      new InputError('service_unavailable', `cannot reach a node with store ${store}: ${error.message}`, {
        cause: error,
        hint: 'start it with atoll start, as the same user and with the same --store',
      }),
    );
  });
  sent.end(call.body === undefined ? undefined : JSON.stringify(call.body));
  return await promise;
}
