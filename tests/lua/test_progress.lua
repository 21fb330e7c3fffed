--- Progress: 0.12's own messages where there are any, one line elsewhere, the same event always.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

--- A child that records what reaches the screen.
local function child()
  local c = h.child()
  c:lua([[
    _G.Echo, _G.Prog = {}, {}
    local echo = vim.api.nvim_echo
    vim.api.nvim_echo = function(chunks, history, opts)
      table.insert(Echo, { text = chunks[1][1], opts = vim.deepcopy(opts) })
      return echo(chunks, history, opts)
    end
    if vim.fn.has('nvim-0.12') == 1 then
      vim.api.nvim_create_autocmd('Progress', { callback = function(ev)
        table.insert(Prog, ev.data)
      end })
    end]])
  return c
end

test('progress: a task is told from its begin to its end, once each', function()
  local c = child()
  c:lua([[
    local p = require('gemma.progress').start('loading the model')
    p:report(10)
    p:report(20)
    p:done()
    p:done()
    p:report(50)]])
  local data = c:lua('return vim.tbl_map(function(e) return e.data end, Seen.events)')
  h.eq(data[1], { title = 'loading the model', text = '', status = 'running' })
  h.eq(data[#data],
    { title = 'loading the model', text = 'done', status = 'success', percent = 100 })
  h.eq(#data, 2, 'what comes too soon after another is left out, the end never')
end)

test('progress: on 0.12 it is a progress message with source, percent and status', function()
  local c = child()
  if c:lua("return vim.fn.has('nvim-0.12')") == 0 then
    h.skip('progress messages came with Neovim 0.12')
  end
  c:lua([[
    local p = require('gemma.progress').start('download', '1.0 GB')
    p:fail('the disk is full')]])
  h.eq(c:lua('return #Prog'), 2)
  local first, last = c:lua('return Prog[1]'), c:lua('return Prog[2]')
  h.eq({ first.source, first.title, first.status }, { 'gemma', 'gemma: download', 'running' })
  h.eq({ last.status, last.text[1] }, { 'failed', 'the disk is full' })
  h.eq(first.id, last.id, 'one message, updated')
end)

test('progress: a long text never asks for Enter', function()
  local c = child()
  c:lua([[
    local p = require('gemma.progress').start('download', ('wide 漢字 '):rep(50))
    p:fail('first line\nsecond line ' .. ('x'):rep(300))]])
  h.eq(c:lua('return vim.api.nvim_get_mode()'), { mode = 'n', blocking = false })
  for _, e in ipairs(c:lua('return Echo')) do
    h.ok(not e.text:find('\n'), 'one line')
    h.ok(vim.fn.strdisplaywidth(e.text) <= 70, e.text)
  end
end)

test('progress: nor where the ruler shares the line with it', function()
  local c = child()
  c:cmd('set laststatus=0 ruler showcmd')
  c:insert_at('|')
  c:lua([[
    local p = require('gemma.progress').start('install', ('wide 漢字 '):rep(50))
    p:report(100, ('x'):rep(300))
    p:done(('x'):rep(300))]])
  local title = c:lua("return vim.fn.has('nvim-0.12') == 1") and 'gemma: install: 100% ' or ''
  for _, e in ipairs(c:lua('return Echo')) do
    h.ok(vim.fn.strdisplaywidth(title .. e.text) <= c:lua('return vim.v.echospace'), e.text)
  end
end)

test('progress: it may be told from a callback of the event loop', function()
  local c = child()
  c:lua([[
    local p = require('gemma.progress').start('unpacking')
    local timer = vim.uv.new_timer()
    timer:start(0, 0, function()
      p:done('ready')
      timer:close()
    end)]])
  c:wait("Seen.events[2] and Seen.events[2].data.text == 'ready'")
end)

--- Texts of the events of loading, after the model was asked for.
local LOADING = [[
  Fake.hold_load = true
  require('gemma.loading').QUIET_MS = ...
  require('gemma').load()]]
local TOLD = [[
  local out = {}
  for _, e in ipairs(Seen.events) do
    if e.name == 'GemmaProgress' then
      out[#out + 1] = { e.data.title, e.data.status, e.data.percent }
    end
  end
  return out]]

test('progress: loading that takes long says how far it is and how it ended', function()
  local c = child()
  c:lua(LOADING, 0)
  c:lua('Fake.progress(42, 100)')
  c:wait("#Seen.events > 1")
  c:lua('Fake.loaded()')
  c:wait("require('gemma.engine').is_loaded()")
  h.eq(c:lua(TOLD),
    { { 'loading the model', 'running' }, { 'loading the model', 'success', 100 } })
end)

test('progress: loading that is over in a moment says nothing', function()
  local c = child()
  c:lua(LOADING, 1000)
  c:lua('Fake.progress(42, 100) Fake.loaded()')
  c:wait("require('gemma.engine').is_loaded()")
  h.eq(c:lua(TOLD), {})
end)

test('progress: loading that is given up ends as cancelled', function()
  local c = child()
  c:lua(LOADING, 0)
  c:lua('Fake.progress(42, 100)')
  c:wait("#Seen.events > 1")
  c:cmd('Gemma unload')
  h.eq(c:lua(TOLD)[2], { 'loading the model', 'cancel', 42 })
end)

return T
