/**
 * A small server that speaks the JSON API of Google Cloud Storage as far as the driver uses it, for its real client library.
 * Source: Cloud Storage JSON API reference. Objects are held in memory.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { PassThroughClient } from 'google-auth-library';
import { compareKeys } from '../../src/blob/memory.ts';

interface StoredFile {
  readonly content: Buffer;
  readonly metadata: Record<string, string>;
}

/** What an upload by one request, or the beginning of one by parts, says of its object. */
interface NewFile {
  readonly metadata?: Record<string, string>;
  readonly md5Hash?: string;
}

interface Session {
  readonly name: string;
  readonly metadata: Record<string, string>;
  readonly mustBeNew: boolean;
  content: Buffer;
}

interface Asked {
  readonly request: IncomingMessage;
  readonly url: URL;
  readonly body: Buffer;
}

interface Answered {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body?: Buffer | object;
}

const PAGE_SIZE = 7;
const BUCKET = 'bucket';

export class GcsServer implements AsyncDisposable {
  readonly #files = new Map<string, StoredFile>();
  readonly #sessions = new Map<string, Session>();
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  /** Called for each request; what it returns is the answer instead of the service's own, given before or after its effect. */
  interfere: (asked: Asked) => { readonly when: 'before' | 'after'; readonly answer: Answered } | undefined =
    () => undefined;

  static async start(): Promise<GcsServer> {
    const server = new GcsServer();
    await new Promise<void>((done) => server.#server.listen(0, '127.0.0.1', done));
    return server;
  }

  /** Where sessions are said to be, when TLS stands before the server; else where it was asked. */
  advertised: string | null = null;

  get endpoint(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `http://127.0.0.1:${address.port}`;
  }

  /** Credentials of nobody: the server asks for none. */
  get authClient(): PassThroughClient {
    return new PassThroughClient();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const url = new URL(request.url ?? '/', 'http://localhost');
    const asked = { request, url, body: Buffer.concat(chunks) };
    const interference = this.interfere(asked);
    const own = interference?.when === 'before' ? undefined : this.#answer(asked);
    const { status, headers = {}, body = '' } = interference?.answer ?? own ?? { status: 500 };
    const isRaw = Buffer.isBuffer(body) || body === '';
    response.writeHead(status, isRaw ? headers : { 'content-type': 'application/json', ...headers });
    response.end(isRaw ? body : JSON.stringify(body));
  }

  #answer(asked: Asked): Answered {
    const { request, url } = asked;
    const path = /^\/(upload\/)?storage\/v1\/b\/([^/]+)\/o(?:\/(.+))?$/.exec(url.pathname);
    const session = url.searchParams.get('upload_id');
    if (session !== null && request.method === 'PUT') return this.#continue(session, asked);
    if (session !== null && request.method === 'DELETE') return { status: 499 };
    if (path === null || path[2] !== BUCKET) return failure(404, 'notFound');
    if (path[1] !== undefined) return this.#upload(asked);
    if (path[3] === undefined) return this.#list(url);
    return this.#object(decodeURIComponent(path[3]), asked);
  }

  #upload({ request, url, body }: Asked): Answered {
    const mustBeNew = url.searchParams.get('ifGenerationMatch') === '0';
    const name = url.searchParams.get('name') ?? '';
    if (url.searchParams.get('uploadType') === 'resumable') {
      const { metadata = {} } = JSON.parse(body.toString() || '{}') as NewFile;
      const id = randomUUID();
      this.#sessions.set(id, { name, metadata, mustBeNew, content: Buffer.alloc(0) });
      const here = this.advertised ?? `http://${request.headers.host ?? ''}`;
      const location = `${here}/upload/storage/v1/b/${BUCKET}/o?uploadType=resumable&upload_id=${id}`;
      return { status: 200, headers: { location } };
    }
    const { metadata, md5Hash, content } = parseMultipart(request, body);
    if (md5Hash !== undefined && md5Hash !== md5Of(content)) return failure(400, 'invalid');
    return this.#store({ name, metadata, mustBeNew, content });
  }

  #continue(id: string, { request, body }: Asked): Answered {
    const session = this.#sessions.get(id);
    if (session === undefined) return failure(404, 'notFound');
    const range = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/.exec(request.headers['content-range'] ?? '');
    if (range === null) return failure(400, 'badRequest');
    if (range[1] !== undefined) {
      if (Number(range[1]) !== session.content.length) return failure(503, 'outOfOrder');
      session.content = Buffer.concat([session.content, body]);
    }
    const done = this.#files.get(session.name);
    const isDone = done !== undefined && done.metadata['atoll-upload'] === session.metadata['atoll-upload'];
    if (isDone) return { status: 200, body: describe(session.name, done) };
    if (range[3] === String(session.content.length)) return this.#store(session);
    const have = session.content.length;
    return { status: 308, headers: have === 0 ? {} : { range: `bytes=0-${have - 1}` } };
  }

  #store({ name, metadata, mustBeNew, content }: Session): Answered {
    if (mustBeNew && this.#files.has(name)) return failure(412, 'conditionNotMet');
    const file = { content, metadata };
    this.#files.set(name, file);
    return { status: 200, body: describe(name, file) };
  }

  #list(url: URL): Answered {
    const prefix = url.searchParams.get('prefix') ?? '';
    const delimiter = url.searchParams.get('delimiter');
    const from = url.searchParams.get('pageToken') ?? '';
    const names = new Set<string>();
    for (const name of [...this.#files.keys()].sort(compareKeys)) {
      if (!name.startsWith(prefix)) continue;
      const slash = delimiter === null ? -1 : name.indexOf(delimiter, prefix.length);
      names.add(slash === -1 ? name : name.slice(0, slash + 1));
    }
    const after = [...names].filter((name) => from === '' || compareKeys(name, from) > 0);
    const page = after.slice(0, PAGE_SIZE);
    const items = page.flatMap((name) => {
      const file = this.#files.get(name);
      return file === undefined ? [] : [describe(name, file)];
    });
    const prefixes = page.filter((name) => !this.#files.has(name));
    const nextPageToken = after.length > page.length ? page.at(-1) : undefined;
    return { status: 200, body: { items, prefixes, nextPageToken } };
  }

  #object(name: string, { request, url }: Asked): Answered {
    const file = this.#files.get(name);
    if (file === undefined) return failure(404, 'notFound');
    if (request.method === 'DELETE') {
      this.#files.delete(name);
      return { status: 204 };
    }
    if (url.searchParams.get('alt') !== 'media') return { status: 200, body: describe(name, file) };
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const [begin, end] = [Number(range?.[1] ?? 0), Number(range?.[2] ?? file.content.length - 1) + 1];
    if (begin >= file.content.length && file.content.length > 0)
      return failure(416, 'requestedRangeNotSatisfiable');
    const body = file.content.subarray(begin, end);
    if (range === null) return { status: 200, body };
    const contentRange = `bytes ${begin}-${begin + body.length - 1}/${file.content.length}`;
    return { status: 206, headers: { 'content-range': contentRange }, body };
  }
}

export function failure(status: number, reason: string): Answered {
  return { status, body: { error: { code: status, message: reason, errors: [{ reason }] } } };
}

function describe(name: string, { content, metadata }: StoredFile) {
  return { name, size: String(content.length), metadata, md5Hash: md5Of(content), generation: '1' };
}

function md5Of(content: Buffer): string {
  return createHash('md5').update(content).digest('base64');
}

/** `multipart/related`: metadata as JSON, then the content. */
function parseMultipart(
  request: IncomingMessage,
  body: Buffer,
): StoredFile & { readonly md5Hash: string | undefined } {
  const boundary = /boundary="?([^";]+)/.exec(request.headers['content-type'] ?? '')?.[1] ?? '';
  const marker = Buffer.from(`--${boundary}`);
  const parts: Buffer[] = [];
  for (let at = body.indexOf(marker); at !== -1; ) {
    const next = body.indexOf(marker, at + marker.length);
    if (next === -1) break;
    const part = body.subarray(at + marker.length, next);
    parts.push(part.subarray(part.indexOf('\r\n\r\n') + 4, part.length - 2));
    at = next;
  }
  const [json = Buffer.from('{}'), content = Buffer.alloc(0)] = parts;
  const { metadata = {}, md5Hash } = JSON.parse(json.toString()) as NewFile;
  return { metadata, md5Hash, content: Buffer.from(content) };
}
