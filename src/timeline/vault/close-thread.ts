/** Entry of the thread that compresses what the vault has received, so that receiving goes on meanwhile. */
import { serveTasks } from '../worker/thread-server.ts';
import { workerRng } from '../worker/worker-environment.ts';
import { closeSegment, closingTools, type FullSegment } from './close-segment.ts';

const tools = closingTools({ rng: workerRng });

serveTasks<FullSegment, number>(async (full) => ({ result: await closeSegment(full, tools) }));
