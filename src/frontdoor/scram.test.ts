import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import pg from 'pg';
import postgres from 'postgres';
import { connect, TestBed } from '../../test/harness/front-door.ts';
import type { FrontDoor } from './front-door.ts';
import { parseVerifier } from '../pg/index.ts';
import { ScramServer } from './scram.ts';

/** The password "pencil" with the salt of RFC 7677, section 3, as pg_authid would keep it. */
const RFC_VERIFIER =
  'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=';
const SERVER_NONCE = '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0';
const credential = { canLogin: true, isExpired: false, verifier: RFC_VERIFIER };

function server(options: Partial<ConstructorParameters<typeof ScramServer>[0]> = {}): ScramServer {
  return new ScramServer({
    user: 'user',
    credential,
    mockKey: Buffer.alloc(32, 1),
    nonce: SERVER_NONCE,
    ...options,
  });
}

describe('one exchange', () => {
  test('gives the messages of RFC 7677', () => {
    const scram = server();
    assert.equal(
      scram.begin('n,,n=user,r=rOprNGfwEbeRWgbNEkqO'),
      'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
    );
    assert.equal(
      scram.finish(
        'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
      ),
      'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
    );
  });

  test('refuses what is malformed, replayed or bound to a channel', () => {
    for (const first of [
      '',
      'n',
      'n,,',
      'n,,r=abc',
      'n,,n=x,r=',
      'p=tls-server-end-point,,n=,r=abc',
      'n,,m=x,n=,r=a',
    ]) {
      assert.throws(() => server().begin(first), first);
    }
    for (const final of ['', 'c=biws', 'c=biws,r=other,p=AAAA', 'c=eSws,r=abc,p=AAAA', 'r=abc,p=AAAA']) {
      const scram = server();
      scram.begin('n,,n=,r=abc');
      assert.throws(() => scram.finish(final), { code: 'protocol_violation' }, final);
    }
    fc.assert(
      fc.property(fc.string(), fc.string(), (first, final) => {
        assert.throws(() => {
          const scram = server();
          scram.begin(first);
          scram.finish(final);
        });
      }),
    );
  });

  test('binds to the channel that the client means, and to no other', () => {
    const channelBinding = Buffer.from('hash of a certificate');
    const bound = () => server({ channelBinding, isBound: true });
    const first = 'p=tls-server-end-point,,n=,r=abc';
    const final = (binding: Buffer) =>
      `c=${Buffer.concat([Buffer.from('p=tls-server-end-point,,'), binding]).toString('base64')},r=abc${SERVER_NONCE},p=${Buffer.alloc(32).toString('base64')}`;
    const right = bound();
    right.begin(first);
    assert.throws(() => right.finish(final(channelBinding)), /password authentication failed/);
    const relayed = bound();
    relayed.begin(first);
    assert.throws(() => relayed.finish(final(Buffer.from('another'))), /bound to another connection/);
    const cases: [ScramServer, string][] = [
      [bound(), 'n,,n=,r=abc'],
      [bound(), 'y,,n=,r=abc'],
      [bound(), 'p=tls-unique,,n=,r=abc'],
      [server({ channelBinding }), first],
      [server({ channelBinding }), 'y,,n=,r=abc'], // It was not told of our offer.
      [server({ isBound: true }), first],
    ];
    for (const [scram, text] of cases) {
      assert.throws(() => scram.begin(text), { code: 'protocol_violation' }, text);
    }
    server({ channelBinding }).begin('n,,n=,r=abc');
    server().begin('y,,n=,r=abc');
  });

  test('shows the same salt each time to a role that does not exist, and another one to another', () => {
    const salt = (user: string, mockKey = Buffer.alloc(32, 1)): string =>
      /s=([^,]*)/.exec(server({ user, credential: undefined, mockKey }).begin('n,,n=,r=abc'))?.[1] ?? '';
    assert.equal(salt('ghost'), salt('ghost'));
    assert.notEqual(salt('ghost'), salt('spectre'));
    assert.notEqual(salt('ghost'), salt('ghost', Buffer.alloc(32, 2)));
    assert.equal(Buffer.from(salt('ghost'), 'base64').length, 16);
  });
});

test('verifiers of other kinds are none', () => {
  assert.equal(parseVerifier(RFC_VERIFIER)?.iterations, 4096);
  for (const text of [
    '',
    'md5d41d8cd98f00b204e9800998ecf8427e',
    'SCRAM-SHA-256$0:AA==$AA==:AA==',
    'SCRAM-SHA-256$',
  ]) {
    assert.equal(parseVerifier(text), undefined, text);
  }
});

describe('real clients', () => {
  let bed: TestBed;
  let door: FrontDoor;
  before(async () => {
    bed = await TestBed.start();
    door = await bed.open({ authentication: 'scram' });
  });
  after(async () => {
    await bed[Symbol.asyncDispose]();
  });

  /** Creates a role by Postgres itself, and gives the service what pg_authid then holds. */
  async function createRole(name: string, password: string | null): Promise<void> {
    const open = await bed.open();
    const root = await connect(open);
    await root.query(`CREATE ROLE ${pg.escapeIdentifier(name)} LOGIN`);
    if (password !== null) {
      await root.query(`ALTER ROLE ${pg.escapeIdentifier(name)} PASSWORD ${pg.escapeLiteral(password)}`);
    }
    await root.end();
    const rows = await bed.instance.withSystemClient(
      (client) => client.query('SELECT rolpassword FROM pg_authid WHERE rolname = $1', [name]),
      { signal: new AbortController().signal },
    );
    bed.service.credentials.set(name, {
      canLogin: true,
      isExpired: false,
      verifier: rows[0]?.['rolpassword'] ?? null,
    });
  }

  const wrong = { code: '28P01' };

  test('enter with the right password only, also one outside ASCII', async () => {
    for (const [user, password] of [
      ['alice', 'secret'],
      ['bób', 'pâsswörd ⅳ \u00a0x'],
    ] as const) {
      await createRole(user, password);
      const client = await connect(door, { user, password });
      assert.equal((await client.query('SELECT current_user AS u')).rows[0]?.u, user);
      await client.end();
      await assert.rejects(connect(door, { user, password: `${password}x` }), wrong);
      await assert.rejects(connect(door, { user, password: 'x' }), wrong);
    }
    const sql = postgres({
      host: '127.0.0.1',
      port: door.address.port,
      user: 'alice',
      password: 'secret',
      database: 'defaultdb',
    });
    assert.equal((await sql`SELECT current_user AS u`)[0]?.['u'], 'alice');
    await sql.end();
  });

  test('fail alike whether the role is unknown, has no password, or an expired one', async () => {
    await createRole('mute', null);
    await createRole('late', 'secret');
    bed.service.credentials.set('late', {
      ...bed.service.credentials.get('late'),
      canLogin: true,
      verifier: bed.service.credentials.get('late')?.verifier ?? null,
      isExpired: true,
    });
    const messages = await Promise.all(
      ['ghost', 'mute', 'late'].map(async (user) => {
        const error: unknown = await connect(door, { user, password: 'secret' }).catch(
          (thrown: unknown) => thrown,
        );
        assert.ok(error instanceof pg.DatabaseError);
        const { severity, code, detail, hint, routine } = error;
        return { severity, code, detail, hint, routine, message: error.message.replace(user, '?') };
      }),
    );
    assert.deepEqual(messages[1], messages[0]);
    assert.deepEqual(messages[2], messages[0]);
    assert.equal(messages[0]?.code, '28P01');
  });

  test('learn what to do about an md5 password', async () => {
    bed.service.credentials.set('old', {
      canLogin: true,
      isExpired: false,
      verifier: 'md5d41d8cd98f00b204e9800998ecf8427e',
    });
    await assert.rejects(connect(door, { user: 'old', password: 'x' }), (error: pg.DatabaseError) => {
      return error.code === '28P01' && /ALTER ROLE/.test(error.hint ?? '');
    });
  });

  test('are let in by authorize and by Postgres too', async () => {
    await createRole('outsider', 'secret');
    await assert.rejects(connect(door, { user: 'outsider', password: 'secret' }), { code: '42501' });
    await createRole('locked', 'secret');
    const open = await bed.open();
    const root = await connect(open);
    await root.query('ALTER ROLE locked NOLOGIN');
    await root.end();
    await assert.rejects(connect(door, { user: 'locked', password: 'secret' }), { code: '28000' });
    await bed.expectQuiet();
    assert.ok(door.counters.authenticationsFailed >= 8);
    assert.deepEqual(bed.logger.complaints, []);
  });
});
