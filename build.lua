--- build.lua: builds the library for a package manager. lazy.nvim runs it in a coroutine and shows what
--- it yields; where there is none (vim.pack's recipe, `nvim -l build.lua`) it waits. What goes wrong is
--- an error of one line.

if vim.fn.has('nvim-0.10') == 0 then
  error('gemma: gemma.nvim needs Neovim 0.10 or newer.', 0)
end

local root = vim.fs.dirname(vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p'))
local make = dofile(vim.fs.joinpath(root, 'lua', 'gemma', 'make.lua'))

local argv, err = make.command(root)
if not argv then
  error('gemma: ' .. err, 0)
end

local tail, line = make.tail(), nil ---@type gemma.make.Tail, string?
local function on_output(_, data)
  line = tail.add(data)
end

local result ---@type vim.SystemCompleted?
local opts = { text = true, env = make.env, stdout = on_output, stderr = on_output }
local process = vim.system(argv, opts, function(r)
  result = r
end)
-- A manager is left in the middle of it as well; make would go on without the editor.
vim.api.nvim_create_autocmd('VimLeavePre', {
  callback = function()
    if not result then
      process:kill('sigterm')
    end
  end,
})

local routine, is_main = coroutine.running()
if routine and not is_main then
  local told
  while not result do
    local news = line ~= told and vim.trim(line --[[@as string]]) or nil
    told = line -- before the yield: the next one may come meanwhile
    if coroutine.yield(news) == 'abort' then -- <C-c> in lazy.nvim's window
      process:kill('sigterm')
      error('gemma: the library was not built: stopped.', 0)
    end
  end
else
  local told
  while not result do
    vim.wait(100, function()
      return result ~= nil
    end)
    if line ~= told and #vim.api.nvim_list_uis() > 0 then
      told = line
      vim.api.nvim_echo({ { ('gemma: %s'):format(vim.trim(line)):sub(1, vim.v.echospace) } }, false, {})
      vim.cmd.redraw()
    end
  end
end
if result.code ~= 0 or result.signal ~= 0 then
  error('gemma: the library was not built: ' .. make.cause(tail.text(), result.signal), 0)
end
