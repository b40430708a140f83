import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { resolve } from 'node:path';
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { startProgram } from './programs.ts';
import { waitFor } from './wait.ts';

const MAIN = resolve(import.meta.dirname, '../../node_modules/azurite/dist/src/blob/main.js');
const ACCOUNT = 'atolltest';

export interface StorageServer extends AsyncDisposable {
  readonly endpoint: string;
  /** A storage URI of a folder that nothing else uses. */
  newUri(): string;
}

/** Microsoft's emulator of Azure Blob Storage, holding its data in memory. */
export async function startAzurite(): Promise<StorageServer> {
  const port = await freePort();
  const accountKey = randomBytes(32).toString('base64');
  const args = ['--inMemoryPersistence', '--silent', '--disableTelemetry', '--skipApiVersionCheck'];
  const server = startProgram(process.execPath, [MAIN, ...args, '--blobPort', String(port)], {
    AZURITE_ACCOUNTS: `${ACCOUNT}:${accountKey}`,
  });
  const endpoint = `http://127.0.0.1:${port}`;
  const credential = new StorageSharedKeyCredential(ACCOUNT, accountKey);
  const client = new BlobServiceClient(`${endpoint}/${ACCOUNT}`, credential);
  await waitFor('Azurite', async () => {
    server.requireAlive();
    await client.getContainerClient('container').createIfNotExists();
    return true;
  });
  let folders = 0;
  return {
    endpoint,
    newUri: () => {
      const parameters = new URLSearchParams({
        AZURE_ACCOUNT_NAME: ACCOUNT,
        AZURE_ACCOUNT_KEY: accountKey,
        AZURE_ENDPOINT: endpoint,
      });
      return `azure-blob://container/folder-${folders++}?${parameters.toString()}`;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** A port of the loopback interface that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
