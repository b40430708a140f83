import { setTimeout as sleep } from 'node:timers/promises';
import { childPids } from './child-pids.ts';
import type { Site } from './sites.ts';
import type { TcpProxy } from './tcp-proxy.ts';
import { vaultPids } from './vault-rig.ts';
import { waitFor } from './wait.ts';
import type { Dice } from './workload.ts';

/** Between one misfortune and the next: longer each time, so that in the end there is time enough for everything, also on a slow machine. */
const QUIET_MS_MAX = 500;
/** How long one may last. */
const LASTING_MS_MAX = 1500;
const SYSTEM_ID = 1;

interface Target {
  readonly site: Site;
  readonly networks: readonly TcpProxy[];
  readonly dice: Dice;
}

/** All of them are over when their promise is kept. What is not there to be harmed is spared. */
const MISFORTUNES: Readonly<Record<string, (target: Target) => Promise<void> | void>> = {
  'its daemon is killed': async ({ site, dice }) => {
    await site.daemon.kill();
    await sleep(dice.below(LASTING_MS_MAX));
    await site.daemon.startAgain();
  },
  'its daemon stands still': async ({ site, dice }) => {
    process.kill(site.daemon.pid, 'SIGSTOP');
    await sleep(dice.below(LASTING_MS_MAX));
    process.kill(site.daemon.pid, 'SIGCONT');
  },
  'its servers but the system are killed': async ({ site }) => {
    for (const [id, pid] of await site.daemon.postmasters()) if (id !== SYSTEM_ID) killed([pid]);
  },
  'its system server is killed': async ({ site }) => {
    killed([(await site.daemon.postmasters()).get(SYSTEM_ID) ?? 0]);
  },
  'its vault is killed': ({ site }) => killed(vaultPids(site.daemon.pid)),
  'its bulk workers are killed': ({ site }) => killed(childPids(site.daemon.pid, /worker-main\.ts/)),
  'the network is cut': async ({ networks, dice }) => {
    for (const network of networks) network.mode = 'refuse';
    await sleep(dice.below(LASTING_MS_MAX));
    for (const network of networks) network.mode = 'pass';
  },
  'the network holds everything back': async ({ networks, dice }) => {
    for (const network of networks) network.mode = 'silent';
    await sleep(dice.below(LASTING_MS_MAX));
    for (const network of networks) network.mode = 'pass';
  },
  'its stream is paused': async ({ site, dice }) => {
    await site.system('ALTER VIRTUAL CLUSTER main PAUSE REPLICATION').catch(() => undefined);
    await sleep(dice.below(LASTING_MS_MAX));
    await waitFor('the stream not to be paused', async () => {
      if ((await site.status())['status'] !== 'replication paused') return true;
      await site.system('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
      return false;
    });
  },
};

/** Misfortunes that befall sites and the network between them while something else goes on: which, when and whom is chosen by chance. */
export class Havoc implements AsyncDisposable {
  readonly #told: string[] = [];
  readonly #running: Promise<void>;
  readonly #ending = new AbortController();

  constructor(options: {
    sites: Readonly<Record<string, Site>>;
    networks: readonly TcpProxy[];
    dice: Dice;
  }) {
    this.#running = this.#run(options);
  }

  /** What has happened. */
  get told(): readonly string[] {
    return this.#told;
  }

  /** Everything is as it should be again, though not everybody may have come to himself. @throws Error when something could not be mended */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#running;
  }

  async #quiet(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#ending.signal }).catch(() => undefined);
  }

  async #run({ sites, networks, dice }: ConstructorParameters<typeof Havoc>[0]): Promise<void> {
    while (!this.#ending.signal.aborted) {
      await this.#quiet(dice.below(QUIET_MS_MAX * (1 + this.#told.length)));
      if (this.#ending.signal.aborted) return;
      const name = dice.pick(Object.keys(sites));
      const what = dice.pick(Object.keys(MISFORTUNES));
      const site = sites[name];
      if (site === undefined) throw new Error(`there is no ${name}`);
      this.#told.push(`${name}: ${what}`);
      await MISFORTUNES[what]?.({ site, networks, dice });
    }
  }
}

/** Those that have ended meanwhile need not be. */
function killed(pids: readonly number[]): void {
  for (const pid of pids) {
    if (pid === 0) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It is what was wanted.
    }
  }
}
