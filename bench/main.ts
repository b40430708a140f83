/** Measures what the README promises, beside its peers, and writes bench/results.md. Names of suites may be given. */
import { tmpdir } from 'node:os';
import { benchBackup } from './backup.ts';
import { benchClusters } from './clusters.ts';
import { benchFrontDoor } from './front-door.ts';
import { benchForeground } from './foreground.ts';
import { benchIncremental } from './incremental.ts';
import { benchJobs } from './jobs.ts';
import { benchNeighbours } from './neighbours.ts';
import { benchReplication } from './replication.ts';
import { type Figure, publish } from './report.ts';
import { benchRestoreParts } from './restore-parts.ts';
import { benchSparse } from './sparse.ts';
import { benchStorage } from './storage.ts';
import { benchTimeMachine } from './time-machine.ts';
import { benchVault } from './vault.ts';

const SUITES: Readonly<Record<string, () => Promise<Figure[]>>> = {
  clusters: benchClusters,
  'front-door': benchFrontDoor,
  backup: benchBackup,
  vault: benchVault,
  incremental: benchIncremental,
  'time-machine': benchTimeMachine,
  replication: benchReplication,
  foreground: benchForeground,
  neighbours: benchNeighbours,
  'restore-parts': benchRestoreParts,
  sparse: benchSparse,
  storage: benchStorage,
  jobs: benchJobs,
};

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => SUITES[name] === undefined);
if (unknown.length > 0) {
  console.error(`unknown suite ${unknown.join(', ')}; there are ${Object.keys(SUITES).join(', ')}`);
  process.exit(64);
}
// On a real disk: the harness of the tests prefers memory.
process.env['TMPDIR'] ??= tmpdir();
const figures: Figure[] = [];
for (const [name, suite] of Object.entries(SUITES)) {
  if (wanted.length === 0 || wanted.includes(name)) figures.push(...(await suite()));
}
publish(figures, new Date().toISOString().slice(0, 10));
