import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError, type Clock, type Logger, type Timestamp } from '../base/index.ts';
import {
  HttpServer,
  type HttpServerOptions,
  type MetricFamily,
  type MetricsSource,
  type NodeStatus,
} from './index.ts';

const FAMILIES: MetricFamily[] = [
  {
    name: 'sql_txn_commit_count',
    help: 'Transactions committed',
    type: 'counter',
    samples: [
      { labels: { tenant: 'system' }, value: 7 },
      { labels: { tenant: 'main' }, value: 12 },
    ],
  },
  { name: 'sql_sessions', help: 'Sessions', type: 'gauge', samples: [{ labels: {}, value: 3 }] },
];

const STATUS: NodeStatus = {
  nodeId: 1,
  release: '26.2',
  locality: 'region=eu',
  notReadyReason: () => undefined,
  notResponding: async () => [],
};

const clock: Clock = {
  now: () => 0n as Timestamp,
  monotonicMs: () => performance.now(),
  async sleep(ms, { signal }) {
    await delay(ms, undefined, { signal });
  },
};

/** Knows three virtual clusters, of which `idle` has no figures: it does not serve. */
function source(change: Partial<MetricsSource> & Pick<MetricsSource, 'collect'>): MetricsSource {
  const hasVirtualCluster = (name: string) => ['system', 'main', 'idle'].includes(name);
  return { defaultTarget: () => 'main', hasVirtualCluster, ...change };
}

async function withServer(
  change: Partial<HttpServerOptions>,
  run: (base: string, server: HttpServer) => Promise<void>,
): Promise<string[]> {
  const logged: string[] = [];
  const logger: Logger = {
    log: (_, message) => logged.push(message),
    info: (message) => logged.push(message),
    warning: (message) => logged.push(message),
    error: (message, cause) => logged.push(`${message} ${String(cause)}`),
    for: () => logger,
  };
  const server = await HttpServer.open({
    certificate: undefined,
    address: { host: '127.0.0.1', port: 0 },
    status: STATUS,
    metrics: source({ collect: async () => FAMILIES }),
    access: { kind: 'open' },
    mounts: [],
    clock,
    logger,
    ...change,
  });
  try {
    await run(`http://127.0.0.1:${server.port}`, server);
  } finally {
    await server.close();
  }
  return logged;
}

test('health tells the process from the service', async () => {
  let reason: string | undefined = 'the node is starting';
  let silent: string[] = [];
  const status = { ...STATUS, notReadyReason: () => reason, notResponding: async () => silent };
  await withServer({ status }, async (base) => {
    const get = async (path: string) => {
      const response = await fetch(base + path);
      return [response.status, await response.json()] as [number, Record<string, unknown>];
    };
    assert.deepEqual(await get('/health'), [
      200,
      { nodeId: 1, release: '26.2', locality: 'region=eu', isReady: false, notResponding: [] },
    ]);
    assert.deepEqual(await get('/health?ready=1'), [
      503,
      { error: { code: 'not_ready', message: 'the node is starting' }, nodeId: 1, isReady: false },
    ]);
    reason = undefined;
    assert.deepEqual(await get('/health?ready=1'), [
      200,
      { nodeId: 1, release: '26.2', locality: 'region=eu', isReady: true, notResponding: [] },
    ]);
    silent = ['main'];
    for (const path of ['/health', '/health?ready=1']) {
      const [code, body] = await get(path);
      assert.deepEqual([code, body['isReady'], body['notResponding']], [200, true, ['main']]);
    }
  });
});

test('whoever takes too long over a request is cut off, and others are not', async () => {
  await withServer({ requestMsMax: 100 }, async (base, server) => {
    const slow = [
      '',
      'GET /health HTTP/1.1\r\nhost: a\r\nx-slow: ',
      'POST /login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"us',
    ];
    const cut = slow.map(async (begun) => {
      const socket = connect(server.port, '127.0.0.1');
      let answer = '';
      socket.on('data', (bytes) => (answer += bytes.toString('latin1')));
      // A connection that is cut may be reset.
      socket.on('error', () => undefined);
      socket.write(begun);
      await once(socket, 'close');
      return answer;
    });
    for (const answer of await Promise.all(cut)) assert.match(answer, /^$|^HTTP\/1\.1 408 /);
    assert.equal((await fetch(`${base}/health`)).status, 200);
  });
});

test('a virtual cluster sees its own series, the system one sees all', async () => {
  await withServer({}, async (base) => {
    const read = async (query: string) => (await fetch(`${base}/_status/vars${query}`)).text();
    const main = await read('');
    assert.match(main, /^# TYPE sql_txn_commit_count counter\nsql_txn_commit_count\{tenant="main"\} 12$/m);
    assert.doesNotMatch(main, /tenant="system"|sql_sessions|process_cpu/);
    assert.equal(await read('?cluster=main'), main);
    const all = await read('?cluster=system');
    for (const line of [
      'sql_txn_commit_count{tenant="system"} 7',
      'sql_txn_commit_count{tenant="main"} 12',
      'sql_sessions 3',
    ]) {
      assert.ok(all.split('\n').includes(line), line);
    }
    assert.match(all, /^process_resident_memory_bytes \d+/m);
    assert.match(all, /^nodejs_eventloop_lag_seconds /m);
    assert.equal(await read('?cluster=idle'), '\n');
    for (const query of ['', '?cluster=main', '?cluster=system']) {
      const named = (text: string) => text.match(/^sql_.*$/gm);
      assert.deepEqual(
        named(await (await fetch(`${base}/metrics${query}`)).text()),
        named(await read(query)),
      );
    }
    const unknown = await fetch(`${base}/_status/vars?cluster=nobody`);
    assert.equal(unknown.status, 404);
    const answer = (await unknown.json()) as { error: { code: string; message: string } };
    assert.equal(answer.error.code, 'object_not_found');
    assert.equal(answer.error.message, 'there is no virtual cluster "nobody"');
  });
});

test('readers at the same time share one collection', async () => {
  let collections = 0;
  let requests = 0;
  const gate = Promise.withResolvers<void>();
  const metrics = source({
    defaultTarget() {
      requests += 1;
      return 'system';
    },
    async collect() {
      collections += 1;
      await gate.promise;
      return FAMILIES;
    },
  });
  await withServer({ metrics }, async (base) => {
    const reading = Array.from({ length: 5 }, async () => (await fetch(`${base}/_status/vars`)).text());
    while (requests < 5) await delay(1);
    gate.resolve();
    for (const text of await Promise.all(reading)) assert.match(text, /^sql_sessions 3$/m);
    assert.equal(collections, 1);
  });
});

test('every answer carries the security headers, errors are JSON', async () => {
  const mounts = [
    {
      prefix: '/api/v1',
      routes: async (app: Parameters<HttpServerOptions['mounts'][number]['routes']>[0]) => {
        app.get('/refused', async () => {
          throw new AppError('object_not_found', 'no such plan', { hint: 'make one' });
        });
        app.get('/broken', async () => {
          throw new Error('secret inner state');
        });
        app.post('/echo', async (request) => request.body);
      },
    },
  ];
  const logged = await withServer({ mounts }, async (base) => {
    const missing = await fetch(`${base}/no/where?token=x`);
    assert.equal(missing.status, 404);
    assert.equal(missing.headers.get('x-content-type-options'), 'nosniff');
    assert.equal(missing.headers.get('x-frame-options'), 'DENY');
    assert.deepEqual(await missing.json(), {
      error: { code: 'not_found', message: 'no such path: GET /no/where' },
    });
    const refused = await fetch(`${base}/api/v1/refused`);
    assert.equal(refused.status, 404);
    assert.deepEqual(await refused.json(), {
      error: { code: 'object_not_found', message: 'no such plan', hint: 'make one' },
    });
    const broken = await fetch(`${base}/api/v1/broken`);
    assert.equal(broken.status, 500);
    assert.doesNotMatch(await broken.text(), /secret/);
    const large = await fetch(`${base}/api/v1/echo`, { method: 'POST', body: 'x'.repeat(2 * 1024 * 1024) });
    assert.equal(large.status, 413);
    const wrongMethod = await fetch(`${base}/health`, { method: 'DELETE' });
    assert.equal(wrongMethod.status, 404);
  });
  assert.equal(logged.length, 1);
  assert.match(logged[0] ?? '', /HTTP GET \/api\/v1\/broken failed .*secret inner state/);
});

test('headers without end and bytes that are no HTTP are refused', async () => {
  await withServer({}, async (base) => {
    const send = async (text: string): Promise<string> => {
      const socket = connect({ host: '127.0.0.1', port: Number(new URL(base).port) });
      socket.end(text);
      let answer = '';
      for await (const chunk of socket) answer += String(chunk);
      return answer;
    };
    assert.match(
      await send(`GET / HTTP/1.1\r\nhost: x\r\nlong: ${'y'.repeat(40_000)}\r\n\r\n`),
      /^HTTP\/1\.1 431/,
    );
    assert.match(await send('\u0016\u0003\u0001 nonsense\r\n\r\n'), /^HTTP\/1\.1 400/);
    assert.equal((await fetch(`${base}/health`)).status, 200);
  });
});

test('an address in use is named with its flag', async () => {
  await withServer({}, async (_, server) => {
    await assert.rejects(
      withServer({ address: { host: '127.0.0.1', port: server.port } }, async () => undefined),
      (error) => {
        assert.ok(error instanceof AppError);
        assert.equal(error.code, 'address_in_use');
        assert.ok(error.message.includes(String(server.port)));
        assert.match(error.hint ?? '', /--http-addr/);
        return true;
      },
    );
  });
});

test('closing cuts a request that does not end', async () => {
  const never = Promise.withResolvers<readonly MetricFamily[]>();
  let isAsked = false;
  const collect = async () => {
    isAsked = true;
    return await never.promise;
  };
  // Time that does not pass in a test: the limit is reached at once.
  const hasty: Clock = { ...clock, sleep: async () => undefined };
  let reading: Promise<unknown> = Promise.resolve();
  await withServer({ metrics: source({ collect }), clock: hasty }, async (base) => {
    reading = fetch(`${base}/_status/vars`).then(
      () => 'answered',
      () => 'cut',
    );
    while (!isAsked) await delay(1);
  });
  assert.equal(await reading, 'cut');
  never.resolve([]);
});
