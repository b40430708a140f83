import assert from 'node:assert/strict';
import { it } from 'node:test';
import { z } from 'zod';
import { lazySchema } from './lazy-schema.ts';

it('makes a schema when it is first asked for, once, by the very library that others import', () => {
  let made = 0;
  const schema = lazySchema((library) => {
    made += 1;
    assert.equal(library, z);
    return library.strictObject({ count: library.int() });
  });
  assert.equal(made, 0);
  assert.deepEqual(schema().parse({ count: 3 }), { count: 3 });
  assert.equal(schema().safeParse({ count: 'three' }).success, false);
  assert.equal(schema(), schema());
  assert.equal(made, 1);
});
