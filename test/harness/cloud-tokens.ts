/**
 * A small server that gives out the rights of a node in Google's and Azure's clouds, to the libraries that look for them there. Sources: Google Cloud
 * "Workload Identity Federation" (token exchange, RFC 8693); Azure App Service, "REST endpoint reference" of managed identities.
 */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';

export class CloudTokenServer implements AsyncDisposable {
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  readonly #subject = randomBytes(16).toString('hex');
  readonly #header = randomBytes(16).toString('hex');
  readonly #tokens: { readonly google: string; readonly azure: string };
  /** Services that were asked for. */
  readonly asked: string[] = [];

  private constructor(tokens: { readonly google: string; readonly azure: string }) {
    this.#tokens = tokens;
  }

  static async start(tokens: { readonly google: string; readonly azure: string }): Promise<CloudTokenServer> {
    const server = new CloudTokenServer(tokens);
    await new Promise<void>((done) => server.#server.listen(0, '127.0.0.1', done));
    return server;
  }

  /** What a daemon has to have in its environment; `directory` takes the files that it names. */
  async environment(directory: string): Promise<Record<string, string>> {
    const [subject, credentials] = [join(directory, 'subject-token'), join(directory, 'google.json')];
    await writeFile(subject, this.#subject);
    const account = {
      type: 'external_account',
      audience: '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/test',
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: `${this.#endpoint}/google`,
      credential_source: { file: subject },
    };
    await writeFile(credentials, JSON.stringify(account));
    return {
      GOOGLE_APPLICATION_CREDENTIALS: credentials,
      IDENTITY_ENDPOINT: `${this.#endpoint}/azure`,
      IDENTITY_HEADER: this.#header,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  get #endpoint(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `http://127.0.0.1:${address.port}`;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = Buffer.concat(await Array.fromAsync(request as AsyncIterable<Buffer>)).toString();
    const { pathname, searchParams } = new URL(request.url ?? '', this.#endpoint);
    const answer = pathname === '/google' ? this.#google(body) : this.#azure(request, searchParams);
    response.writeHead(answer === null ? 401 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer ?? { error: 'invalid_request' }));
  }

  #google(body: string): object | null {
    if (new URLSearchParams(body).get('subject_token') !== this.#subject) return null;
    this.asked.push('google');
    return {
      access_token: this.#tokens.google,
      issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      token_type: 'Bearer',
      expires_in: 3600,
    };
  }

  #azure({ headers }: IncomingMessage, asked: URLSearchParams): object | null {
    if (headers['x-identity-header'] !== this.#header) return null;
    const resource = asked.get('resource') ?? '';
    this.asked.push(resource);
    const expiresOn = Math.floor(Date.now() / 1000) + 86_400;
    return {
      access_token: this.#tokens.azure,
      expires_on: String(expiresOn),
      resource,
      token_type: 'Bearer',
    };
  }
}
