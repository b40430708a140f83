import { z } from 'zod';

/** What a node that is up tells about itself: to the operator, to `atoll init`, to the process that started it. */
export const nodeReportSchema = z.object({
  processId: z.number(),
  release: z.string(),
  store: z.string(),
  isNewStore: z.boolean(),
  isInsecure: z.boolean(),
  /** Folder of the certificates; null when nothing is encrypted. */
  certificatesDirectory: z.string().nullable(),
  /** False while the node waits for `atoll init`. */
  isInitialized: z.boolean(),
  /** Name of the virtual cluster that clients reach without naming one. */
  defaultTarget: z.string(),
  sql: z.object({ host: z.string(), port: z.number() }),
  http: z.object({ host: z.string(), port: z.number() }),
  /** Folder of the local socket, which asks for no password. */
  socketDirectory: z.string(),
  logFile: z.string(),
});

export type NodeReport = z.infer<typeof nodeReportSchema>;
