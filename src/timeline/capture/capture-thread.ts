/** Entry of the threads that copy. */
import { workerData } from 'node:worker_threads';
import { serveTasks } from '../worker/thread-server.ts';
import { CaptureTasks } from './capture-tasks.ts';
import type { CaptureResult, CaptureTask, CaptureThreadData } from './tasks.ts';

const tasks = new CaptureTasks(workerData as CaptureThreadData); // Given by the capture that started us.

serveTasks<CaptureTask, CaptureResult>((task) => tasks.run(task));
