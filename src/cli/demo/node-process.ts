import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { AppError } from '../../base/index.ts';
import { nodeReportSchema, type NodeReport } from '../../daemon/index.ts';

/** A node that runs as a child of the demonstration, as anybody would start it. */
export class NodeProcess {
  readonly argv: readonly string[];
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #ready = Promise.withResolvers<NodeReport>();

  constructor(argv: readonly string[]) {
    const program = process.argv[1];
    if (program === undefined) throw new AppError('internal', 'cannot tell which program runs');
    this.argv = argv;
    this.#child = spawn(process.execPath, [...process.execArgv, program, ...argv], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#exited = once(this.#child, 'exit');
    this.#watch();
  }

  /** Resolves when it serves. @throws AppError when it ends before */
  async whenReady(): Promise<NodeReport> {
    return await this.#ready.promise;
  }

  /** From the first moment on: it may end before anybody asks. */
  #watch(): void {
    const { promise, resolve, reject } = this.#ready;
    promise.catch(() => undefined);
    this.#child.once('message', (message: unknown) => {
      const isReady = typeof message === 'object' && message !== null && 'report' in message;
      if (isReady) resolve(nodeReportSchema.parse(message.report));
    });
    this.#child.once('exit', (code, signal) => {
      reject(
        new AppError('internal', `the node ended before it was ready (${signal ?? `exit code ${code}`})`),
      );
    });
    this.#child.once('error', reject);
  }

  /** Resolves when it has ended, by whatever cause. */
  async whenEnded(): Promise<void> {
    await this.#exited;
  }

  /** Asks it to stop, and waits. */
  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGTERM');
    await this.#exited;
  }
}

/** The port when nobody listens there, otherwise 0: the system's choice. */
export async function freePort(port: number): Promise<number> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<number>();
  server.once('error', () => resolve(0));
  server.listen(port, 'localhost', () => server.close(() => resolve(port)));
  return await promise;
}
