/**
 * A small server that speaks the two protocols of AWS that taking on roles needs: AssumeRole of the Security Token Service, and of S3 the
 * requests that tell who asks, and with what headers objects are made. Source: AWS STS API reference, Amazon S3 API reference.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

/** Who may take on a role: by access key of whoever asks. */
export interface TrustedRole {
  readonly arn: string;
  readonly trusts: string;
  readonly externalId: string | null;
}

interface Begun {
  readonly host: string | undefined;
  readonly path: string;
  readonly isInParts: boolean;
  readonly storageClass: string | null;
  readonly encryption: string | null;
  readonly encryptionKey: string | null;
}

/** Uploads that were begun and given up, in the order in which they are listed. */
interface Upload {
  readonly key: string;
  readonly id: string;
}

const LISTED_MAX = 1000;

export class AwsServer implements AsyncDisposable {
  /** What the service says instead of doing what it is asked: status and word. */
  failure: { readonly of: 'sts' | 's3'; readonly status: number; readonly word: string } | null = null;
  uploads: Upload[] = [];
  readonly roles: TrustedRole[] = [];
  /** With what word writes without `Content-MD5` are refused, as to a bucket with object lock; null where they are taken. */
  demandsDigest: string | null = null;
  /** What was written, and whether a digest came with it. The SHA-256 that is signed is checked. */
  readonly written: { readonly bytes: number; readonly hasDigest: boolean }[] = [];
  /** Of each object that was begun, by one request or in parts, how it was asked for. */
  readonly begun: Begun[] = [];
  /** With what token the first keys come; null for none. */
  firstToken: string | null = null;
  /** Access keys that asked S3, and what was assumed, in order. */
  readonly asked: string[] = [];
  readonly assumed: string[] = [];
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  readonly #tokens = new Map<string, string>();

  static async start(): Promise<AwsServer> {
    const server = new AwsServer();
    await new Promise<void>((done) => server.#server.listen(0, '127.0.0.1', done));
    return server;
  }

  get endpoint(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the server does not listen');
    return `http://127.0.0.1:${address.port}`;
  }

  /** A URI of the bucket, asked for with these parameters beside the address. */
  uri(parameters: Readonly<Record<string, string>>): string {
    const query = new URLSearchParams({
      AWS_ACCESS_KEY_ID: 'FIRST',
      AWS_SECRET_ACCESS_KEY: 'secret',
      AWS_ENDPOINT: this.endpoint,
      AWS_USE_PATH_STYLE: 'true',
      ...parameters,
    });
    return `s3://bucket/folder?${query.toString()}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const body = Buffer.concat(pieces);
    const form = new URLSearchParams(body.toString());
    const url = new URL(request.url ?? '/', 'http://server');
    const accessKey = /Credential=([^/]+)\//.exec(request.headers.authorization ?? '')?.[1] ?? '';
    const isSts = form.get('Action') === 'AssumeRole';
    const { failure } = this;
    if (failure !== null && failure.of === (isSts ? 'sts' : 's3')) {
      return answer(response, failure.status, errorText(failure.word, isSts));
    }
    if (!this.#isKnown(accessKey, request))
      return answer(response, 403, errorText('InvalidClientTokenId', isSts));
    if (isSts) return this.#assumeRole(form, accessKey, response);
    this.asked.push(accessKey);
    if (request.method === 'GET' && url.searchParams.has('uploads')) {
      return answer(response, 200, this.#listUploads(url.searchParams));
    }
    if (request.method === 'DELETE' && url.searchParams.has('uploadId')) {
      const id = url.searchParams.get('uploadId');
      this.uploads = this.uploads.filter((upload) => upload.id !== id);
      return answer(response, 204, '');
    }
    const isBegun = request.method === 'POST' && url.searchParams.has('uploads');
    if (isBegun || (request.method === 'PUT' && !url.searchParams.has('uploadId'))) {
      this.begun.push(begunBy(request, url.pathname));
    }
    if (isBegun) {
      const id = '<UploadId>upload</UploadId>';
      return answer(response, 200, `<InitiateMultipartUploadResult>${id}</InitiateMultipartUploadResult>`);
    }
    if (request.method === 'POST' && url.searchParams.has('uploadId')) {
      const etag = '<ETag>"whole"</ETag>';
      return answer(response, 200, `<CompleteMultipartUploadResult>${etag}</CompleteMultipartUploadResult>`);
    }
    if (request.method === 'PUT') return this.#put(request, body, response);
    answer(response, 404, '');
  }

  #put({ headers }: IncomingMessage, body: Buffer, response: ServerResponse): void {
    const hasDigest = headers['content-md5'] !== undefined;
    if (!hasDigest && this.demandsDigest !== null) {
      return answer(response, 400, errorText(this.demandsDigest, false));
    }
    if (hasDigest && headers['content-md5'] !== createHash('md5').update(body).digest('base64')) {
      return answer(response, 400, errorText('BadDigest', false));
    }
    if (headers['x-amz-content-sha256'] !== createHash('sha256').update(body).digest('hex')) {
      return answer(response, 400, errorText('XAmzContentSHA256Mismatch', false));
    }
    this.written.push({ bytes: body.length, hasDigest });
    answer(response, 200, '');
  }

  /** Keys of roles come with their token, the first ones with none. */
  #isKnown(accessKey: string, request: IncomingMessage): boolean {
    const token = request.headers['x-amz-security-token'];
    return accessKey === 'FIRST'
      ? (token ?? null) === this.firstToken
      : this.#tokens.get(accessKey) === token;
  }

  #assumeRole(form: URLSearchParams, accessKey: string, response: ServerResponse): void {
    const role = this.roles.find(({ arn }) => arn === form.get('RoleArn'));
    const isTrusted = role?.trusts === accessKey && role.externalId === form.get('ExternalId');
    if (role === undefined || !isTrusted) return answer(response, 403, errorText('AccessDenied', true));
    const name = `ROLE${this.roles.indexOf(role)}`;
    this.assumed.push(role.arn);
    this.#tokens.set(name, `token-of-${name}`);
    answer(
      response,
      200,
      `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
        <AccessKeyId>${name}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
        <SessionToken>token-of-${name}</SessionToken><Expiration>2199-01-01T00:00:00Z</Expiration>
        </Credentials></AssumeRoleResult></AssumeRoleResponse>`,
    );
  }

  /** At most a thousand a page, from behind the marker on. */
  #listUploads(parameters: URLSearchParams): string {
    const [afterKey, afterId] = [
      parameters.get('key-marker') ?? '',
      parameters.get('upload-id-marker') ?? '',
    ];
    const rest = this.uploads.filter(
      ({ key, id }) => key > afterKey || (key === afterKey && afterId !== '' && id > afterId),
    );
    const page = rest.slice(0, LISTED_MAX);
    const last = page.at(-1);
    const isTruncated = rest.length > page.length;
    return `<ListMultipartUploadsResult><Bucket>bucket</Bucket><IsTruncated>${isTruncated}</IsTruncated>
      ${isTruncated ? `<NextKeyMarker>${last?.key}</NextKeyMarker><NextUploadIdMarker>${last?.id}</NextUploadIdMarker>` : ''}
      ${page.map(({ key, id }) => `<Upload><Key>${key}</Key><UploadId>${id}</UploadId></Upload>`).join('')}
      </ListMultipartUploadsResult>`;
  }
}

function begunBy({ headers }: IncomingMessage, path: string): Begun {
  const told = (name: string) => String(headers[name] ?? '') || null;
  return {
    host: headers.host,
    path,
    isInParts: headers['content-length'] === undefined || headers['content-length'] === '0',
    storageClass: told('x-amz-storage-class'),
    encryption: told('x-amz-server-side-encryption'),
    encryptionKey: told('x-amz-server-side-encryption-aws-kms-key-id'),
  };
}

function errorText(word: string, isSts: boolean): string {
  const error = `<Error><Type>Sender</Type><Code>${word}</Code><Message>secret in the message</Message></Error>`;
  return isSts
    ? `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">${error}</ErrorResponse>`
    : error;
}

function answer(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { 'content-type': 'text/xml' }).end(body);
}
